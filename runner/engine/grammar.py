"""Compiles a GBNF grammar to llama.cpp's sampler; reports errors by line and column."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.runner.sampling.settings import SamplingError

from .backend import log

_MAX_DEPTH = 100  # llama.cpp's parser recurses; it crashes at about ten thousand
_NO_SYNTAX = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*', re.DOTALL)
_HEAVY = re.compile(r"[()]|\{\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\}")
_OPENING = "error parsing grammar: "
_MAX_SHOWN = 30
_ONE_AT_A_TIME = threading.Lock()  # standard error is the whole process's
_MAX_CAPTURED = 1 << 18  # room for the parser's message and all of the grammar


def grammar_sampler(vocab: Any, grammar: str) -> Any:
    """A llama_sampler that allows the texts of the rule `root` of `grammar`.

    Raises SamplingError with the line and column of a mistake.
    """
    _check(grammar)
    log.clear()
    with _ONE_AT_A_TIME, _captured_stderr() as captured:
        sampler = lib.llama_sampler_init_grammar(vocab, grammar.encode(errors="replace"), b"root")
    if not sampler:
        # The parser's message ends with the whole grammar.
        message = captured[0].partition(_OPENING)[2].rstrip().removesuffix(grammar.rstrip())
        raise SamplingError(explained(grammar, message.rstrip() or log.reason()))
    return sampler


def free_sampler(sampler: Any) -> None:
    """Free what `grammar_sampler` returned."""
    lib.llama_sampler_free(sampler)


def _check(grammar: str) -> None:
    """Raise SamplingError for what overflows the parser's stack or takes all memory."""
    syntax = _NO_SYNTAX.sub(lambda match: " " * len(match[0]), grammar)
    depth = 0
    for match in _HEAVY.finditer(syntax):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        mistake = ""
        if depth > _MAX_DEPTH:
            mistake = f"brackets nested more than {_MAX_DEPTH} deep"
        elif match[1] and int(match[2]) < int(match[1]):
            mistake = f"the minimum {match[1]} is above the maximum {match[2]}"
        if mistake:
            raise SamplingError(f"the grammar, {_position(grammar, match.start())}: {mistake}")


def explained(grammar: str, message: str) -> str:
    """The parser's `message` about `grammar` in one line, with the line and column it refers to.

    llama.cpp gives a position as the text that remains there.
    """
    grammar = grammar.rstrip()
    what, at, rest = f"{message} ".partition(" at ")
    rest = rest.rstrip()
    name = re.search(r"Undefined rule identifier '(.+)'", message)
    offset = None
    if at and grammar.endswith(rest):
        offset = len(grammar) - len(rest)
    elif name and (used := re.search(rf"(?<![\w-]){re.escape(name[1])}(?![\w-])", grammar)):
        what, offset, rest = message, used.start(), ""
    elif "end of input" in message:
        offset, rest = len(grammar), ""
    if offset is None:
        return f"the grammar cannot be read: {' '.join(message.split())}"
    near = rest.partition("\n")[0].strip()[:_MAX_SHOWN]
    shown = f", not {near!r}" if near else ""
    return f"the grammar, {_position(grammar, offset)}: {what}{shown}"


def _position(grammar: str, offset: int) -> str:
    line_start = grammar.rfind("\n", 0, offset) + 1
    return f"line {grammar.count(chr(10), 0, offset) + 1}, column {offset - line_start + 1}"


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """A list that gets, on exit, what the process wrote to stderr: the parser logs nowhere else."""
    captured: list[str] = []
    with tempfile.TemporaryFile() as file:
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield captured
        finally:
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            captured.append(file.read(_MAX_CAPTURED).decode(errors="replace"))
