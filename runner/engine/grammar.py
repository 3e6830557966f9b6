"""A grammar in GBNF as llama.cpp's sampler, and the place where it is wrong."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.runner.sampling.settings import SamplingError

from .backend import log

_MAX_DEPTH = 100  # llama.cpp's parser recurses; it crashes at some ten thousand
_NO_SYNTAX = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*', re.DOTALL)
_HEAVY = re.compile(r"[()]|\{\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\}")
_OPENING = "error parsing grammar: "
_MAX_SHOWN = 30
_MAX_SAID = 1 << 18  # the complaint and all of the grammar


def grammar_sampler(vocab: Any, grammar: str) -> Any:
    """A llama_sampler for the texts of the rule `root` of `grammar`.

    Raises SamplingError, which says where the grammar is wrong.
    """
    _check(grammar)
    log.clear()
    with _standard_error() as said:
        sampler = lib.llama_sampler_init_grammar(vocab, grammar.encode(errors="replace"), b"root")
    if not sampler:
        # What the parser says ends with all of the grammar.
        complaint = said[0].partition(_OPENING)[2].rstrip().removesuffix(grammar.rstrip())
        raise SamplingError(explained(grammar, complaint.rstrip() or log.reason()))
    return sampler


def _check(grammar: str) -> None:
    """Raise SamplingError for what takes llama.cpp's parser the stack or all memory."""
    syntax = _NO_SYNTAX.sub(lambda found: " " * len(found[0]), grammar)
    depth = 0
    for found in _HEAVY.finditer(syntax):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        wrong = ""
        if depth > _MAX_DEPTH:
            wrong = f"more than {_MAX_DEPTH} brackets within one another"
        elif found[1] and int(found[2]) < int(found[1]):
            wrong = f"at least {found[1]} times and at most {found[2]}"
        if wrong:
            raise SamplingError(f"the grammar, {_place(grammar, found.start())}: {wrong}")


def explained(grammar: str, complaint: str) -> str:
    """llama.cpp's complaint about `grammar` in one line, with the line and column it means.

    llama.cpp tells a place by all the text that is left there.
    """
    grammar = grammar.rstrip()
    what, at, rest = f"{complaint} ".partition(" at ")
    rest = rest.rstrip()
    name = re.search(r"Undefined rule identifier '(.+)'", complaint)
    place = None
    if at and grammar.endswith(rest):
        place = len(grammar) - len(rest)
    elif name and (used := re.search(rf"(?<![\w-]){re.escape(name[1])}(?![\w-])", grammar)):
        what, place, rest = complaint, used.start(), ""
    elif "end of input" in complaint:
        place, rest = len(grammar), ""
    if place is None:
        return f"the grammar cannot be read: {' '.join(complaint.split())}"
    near = rest.partition("\n")[0].strip()[:_MAX_SHOWN]
    shown = f", not {near!r}" if near else ""
    return f"the grammar, {_place(grammar, place)}: {what}{shown}"


def _place(grammar: str, place: int) -> str:
    line_start = grammar.rfind("\n", 0, place) + 1
    return f"line {grammar.count(chr(10), 0, place) + 1}, column {place - line_start + 1}"


@contextmanager
def _standard_error() -> Iterator[list[str]]:
    """What the process writes to standard error meanwhile, at the end: the parser's only voice."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said.append(file.read(_MAX_SAID).decode(errors="replace"))
