"""Banned phrases: finds them in a text, and where its end could still become one. Pure.

A phrase is a text that matches in any case and anywhere, even inside a word. Between slashes it is
a regular expression, /\\bshivers?\\b/, of the `regex` library, whose partial matches show that a
match may begin at the end of a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import regex

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.common.safe_regex import ExpressionError, compiled

_MAX_PHRASES = 10_000
_MAX_CHARACTERS = 500
MAX_HELD = 500
"""Most characters to hold back, even if they could still become a match."""
_SECONDS = 0.05
"""An expression whose search takes longer than this is dropped."""


class BanError(FrankenError):
    """A phrase that cannot be banned."""


@dataclass(frozen=True)
class Found:
    """The result of a search, as offsets from the start of the text."""

    start: int | None
    """Where the first banned phrase begins; None if there is none."""
    safe: int
    """Characters before this offset cannot be part of a banned phrase."""


class Banned:
    """All banned phrases, compiled for searching."""

    def __init__(self, phrases: Iterable[str] = ()) -> None:
        """Raises BanError."""
        self.phrases = tuple(dict.fromkeys(phrases))
        if len(self.phrases) > _MAX_PHRASES:
            raise BanError(f"{len(self.phrases)} banned phrases; the limit is {_MAX_PHRASES}")
        self._trie: dict[str, Any] = {}
        self._expressions: list[regex.Pattern[str]] = []
        self.given_up: list[str] = []
        """Expressions that were dropped because they took too long."""
        for phrase in self.phrases:
            if not phrase.strip() or len(phrase) > _MAX_CHARACTERS:
                raise BanError(f"a banned phrase has 1 to {_MAX_CHARACTERS} characters")
            if len(phrase) > 2 and phrase[0] == phrase[-1] == "/":
                self._expressions.append(_compiled(phrase))
            else:
                _insert(self._trie, phrase)

    def __bool__(self) -> bool:
        return bool(self.phrases)

    def look(self, text: str, start: int) -> Found:
        """Search for phrases that begin at `start` or later; expressions see the text before it."""
        first, safe = self._search_phrases(text, start)
        for expression in list(self._expressions):
            match, end = self._search(expression, text, start)
            safe = min(safe, end)
            if match is not None:
                first = match if first is None else min(first, match)
        return Found(first, safe)

    def _search_phrases(self, text: str, start: int) -> tuple[int | None, int]:
        """Where the first phrase starts, and where a text that may become one starts."""
        safe = len(text)
        for place in range(start, len(text)):
            node = self._trie
            for character in text[place:]:
                node = node.get(_folded(character), _NOTHING)
                if not node or _END in node:
                    break
            else:
                safe = min(safe, place)
            if _END in node:
                return place, min(safe, place)
        return None, safe

    def _search(
        self, expression: regex.Pattern[str], text: str, start: int
    ) -> tuple[int | None, int]:
        """Where the first match starts, and where a text that may become one starts."""
        safe = len(text)
        try:
            match = expression.search(text, start, partial=True, timeout=_SECONDS)
            if match and match.partial:
                if len(text) - match.start() <= MAX_HELD:
                    safe = match.start()
                # A complete match can follow after the partial one.
                match = expression.search(text, start, timeout=_SECONDS)
        except TimeoutError:
            self._expressions.remove(expression)
            self.given_up.append(f"/{expression.pattern}/")
            return None, len(text)
        # An empty match would ban everything.
        if match and match.end() > match.start():
            return match.start(), min(safe, match.start())
        return None, safe


_END = ""  # marks a node at which a phrase ends; no character equals it
_NOTHING: dict[str, Any] = {}


def _folded(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character


def _insert(trie: dict[str, Any], phrase: str) -> None:
    for character in phrase:
        trie = trie.setdefault(_folded(character), {})
    trie[_END] = {}


def _compiled(phrase: str) -> regex.Pattern[str]:
    try:
        return compiled(phrase[1:-1], regex.IGNORECASE)
    except ExpressionError as error:
        raise BanError(f"{phrase}: not a usable regular expression: {error}") from None


def lines(text: str) -> Iterator[str]:
    """The phrases of a file, one a line; empty lines and those that begin with # are skipped."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()
