"""Messages shown again, as when a saved chat resumes; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from franken_gguf.runner.terminal.graphemes import columns

# Where a shortened text can begin: at a paragraph, else a sentence, else a word.
_STARTS = tuple(map(re.compile, (r"\n+", r"(?<=[.!?…])[\"”*»)]*\s+", r"\s+", r"")))


@dataclass(frozen=True)
class Line:
    """One message: the user's, or the model's with the name of its character, if any."""

    text: str
    speaker: str = ""
    is_yours: bool = False


@dataclass(frozen=True)
class Replay:
    """A notice, then messages; with `is_cut`, only those that fit the screen."""

    notice: str
    lines: tuple[Line, ...]
    is_cut: bool = False


def fitting(lines: Sequence[Line], width: int, height: int) -> Sequence[Line]:
    """The last `lines` that fit the screen, whole; of a last one that does not, its end."""
    for start in range(len(lines)):
        if sum(_rows(line.text, width) for line in lines[start:]) <= height:
            return lines[start:]
    return [replace(line, text=_end_of(line.text, width, height)) for line in lines[-1:]]


def _end_of(text: str, width: int, height: int) -> str:
    text = text.rstrip()[-4 * width * height :]
    for starts in _STARTS:
        for found in starts.finditer(text):
            rest = f"... {text[found.end() :]}"
            if found.end() < len(text) and _rows(rest, width) <= height:
                return rest
    return "..."


def _rows(text: str, width: int) -> int:
    return sum(max(1, -(-columns(line) // max(1, width))) for line in text.strip().split("\n"))
