"""Whether a text is a haiku: lines of 5, 7 and 5 syllables, counted by a dictionary. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import syllapy

PATTERN = (5, 7, 5)
_WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")  # noqa: RUF001 - an apostrophe as books have it


def syllables(line: str) -> int:
    """English syllables of a line, estimated for words that the dictionary lacks."""
    return sum(syllapy.count(word) for word in _WORD.findall(line))


def is_haiku(counts: Sequence[int]) -> bool:
    """Whether the lines with syllables have 5, 7 and 5 of them."""
    return tuple(count for count in counts if count) == PATTERN
