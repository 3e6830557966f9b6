"""The keys of a lorebook: which of them a text holds, found among thousands at once."""

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
_SECONDS = 0.01  # a regex that once takes longer for one text is never tried again
_START = 6
_MAX_TEXTS = 4096  # whose keys are remembered: a turn brings one or two new ones


@dataclass(frozen=True)
class Key:
    """A word or phrase, or a regular expression as JavaScript writes it, /.../flags, or bare.

    A phrase is found without regard to case unless `has_case`. With `is_word`, a phrase of one
    word is found as a whole word alone: where a letter that has case or a digit stands next to
    it, it is part of another (in scripts without case, words need not be apart).
    """

    text: str
    is_regex: bool = False
    has_case: bool = False
    is_word: bool = True

    def __post_init__(self) -> None:
        if _JAVASCRIPT.fullmatch(self.text):
            object.__setattr__(self, "is_regex", True)

    def is_in(self, text: str, folded: str) -> bool:
        """Whether `text`, which is `folded` without case, holds this key."""
        if self.is_regex:
            return self._matches(text)
        if self.has_case:
            return _holds(text, self.text, self.is_apart)
        return _holds(folded, self.folded, self.is_apart)

    @cached_property
    def folded(self) -> str:
        """The phrase without case."""
        return self.text.casefold()

    @cached_property
    def is_apart(self) -> bool:
        """Whether other letters must not stand next to it."""
        return self.is_word and len(self.text.split()) == 1

    @cached_property
    def pattern(self) -> Any:
        """The regular expression; None where it is none that can be used."""
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


def _holds(text: str, phrase: str, is_apart: bool) -> bool:
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
    """What a text holds, as far as it was looked through: `rest` are the regexes not tried yet."""

    found: set[int]
    rest: Iterator[tuple[int, Key]]


class KeyIndex:
    """Finds which of many keys a text holds.

    Phrases are filed under their first characters, so that of ten thousand only those are
    looked at that the text could hold. What was found is remembered: a turn of a chat brings few
    new texts.
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
        """The numbers of the keys that `text` holds.

        Regexes are tried until `deadline` (of time.monotonic), the others of them next time.
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
