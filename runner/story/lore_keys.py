"""Lorebook keys, and an index that finds which of thousands of keys occur in a text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex

from franken_gguf.runner.common.safe_regex import ExpressionError, compiled

_JAVASCRIPT = re.compile(r"/(.+)/([a-z]*)", re.DOTALL)
_FLAGS = {"i": regex.IGNORECASE, "m": regex.MULTILINE, "s": regex.DOTALL}
_SECONDS = 0.01  # a regex that takes longer on any text is never tried again
_START = 6
_MAX_TEXTS = 4096  # texts whose keys are cached; a turn adds one or two


@dataclass(frozen=True)
class Key:
    """A word or phrase, or a regular expression in JavaScript's syntax, /.../flags, or bare.

    The case of a phrase matters only with `has_case`. With `is_word`, a phrase of one word matches
    whole words only: not next to a digit or to a letter that has case (scripts without case do
    not always separate words).
    """

    text: str
    is_regex: bool = False
    has_case: bool = False
    is_word: bool = True

    def __post_init__(self) -> None:
        if _JAVASCRIPT.fullmatch(self.text):
            object.__setattr__(self, "is_regex", True)

    def is_in(self, text: str, folded: str) -> bool:
        """Whether this key matches in `text`; `folded` is its case-folded form."""
        if self.is_regex:
            return self._matches(text)
        if self.has_case:
            return _contains(text, self.text, self.is_apart)
        return _contains(folded, self.folded, self.is_apart)

    @cached_property
    def folded(self) -> str:
        """The phrase, case-folded."""
        return self.text.casefold()

    @cached_property
    def is_apart(self) -> bool:
        """Whether it matches only whole words."""
        return self.is_word and len(self.text.split()) == 1

    @cached_property
    def pattern(self) -> Any:
        """The compiled regular expression; None if it cannot be used."""
        found = _JAVASCRIPT.fullmatch(self.text)
        source, flags = (found[1], found[2]) if found else (self.text, "")
        if not found and not self.has_case:
            flags = "i"
        try:
            return compiled(source, sum(_FLAGS.get(flag, 0) for flag in set(flags)))
        except ExpressionError:
            return None

    def _matches(self, text: str) -> bool:
        if self.pattern is None:
            return False
        try:
            return self.pattern.search(text, timeout=_SECONDS) is not None
        except TimeoutError:
            self.__dict__["pattern"] = None
            return False


def _contains(text: str, phrase: str, is_apart: bool) -> bool:
    place = text.find(phrase)
    while place >= 0:
        end = place + len(phrase)
        if not is_apart or not (
            (place and _in_word(text[place - 1])) or (end < len(text) and _in_word(text[end]))
        ):
            return True
        place = text.find(phrase, place + 1)
    return False


def _in_word(character: str) -> bool:
    return character.lower() != character.upper() or character.isdecimal() or character == "_"


@dataclass
class _Scan:
    """The keys found in a text so far; `rest` are the regexes that were not tried yet."""

    found: set[int]
    rest: Iterator[tuple[int, Key]]


class KeyIndex:
    """Finds which of many keys occur in a text.

    Phrases are indexed by their first characters, so that only those are tried that can occur in
    the text. Results are cached, since a turn of a chat adds few new texts.
    """

    def __init__(self, keys: Sequence[Key]) -> None:
        self._regexes: list[tuple[int, Key]] = []
        self._phrases: dict[str, list[tuple[int, Key]]] = {}
        for number, key in enumerate(keys):
            if key.is_regex:
                self._regexes.append((number, key))
            elif key.folded:
                self._phrases.setdefault(key.folded[:_START], []).append((number, key))
        self._lengths = sorted({len(start) for start in self._phrases})
        self._scans: dict[str, _Scan] = {}

    def found(self, text: str, deadline: float) -> Set[int]:
        """The indices of the keys that occur in `text`.

        Regexes are tried until `deadline` (of time.monotonic), the rest in the next call.
        """
        if text not in self._scans:
            if len(self._scans) >= _MAX_TEXTS:
                self._scans.clear()
            self._scans[text] = _Scan(self._phrases_in(text), iter(self._regexes))
        scan = self._scans[text]
        while time.monotonic() < deadline:
            number, key = next(scan.rest, (0, None))
            if key is None:
                break
            if key.is_in(text, text):
                scan.found.add(number)
        return scan.found

    def _phrases_in(self, text: str) -> set[int]:
        folded = text.casefold()
        starts = {
            folded[place : place + length]
            for length in self._lengths
            for place in range(len(folded) - length + 1)
        }
        return {
            number
            for start in starts & self._phrases.keys()
            for number, key in self._phrases[start]
            if key.is_in(text, folded)
        }
