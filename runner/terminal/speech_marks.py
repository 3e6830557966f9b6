"""Quoted speech and *actions* in a text that comes in pieces, as SillyTavern finds them; pure."""

from __future__ import annotations

from enum import Flag, auto
from itertools import groupby

_CLOSING = {'"': '"', "“": "”", "«": "»", "「": "」", "『": "』"}
# Whether one of these opens anything depends on the character after it, so it waits for that.
_HELD = '*`"'
_LONGEST_RUN = 8  # more in a row is a line across the page
_FENCE = 3


class Mark(Flag):
    """What a part of a text is."""

    NONE = 0
    SPEECH = auto()
    ACTION = auto()


Span = tuple[str, Mark]


class MarkedText:
    """`feed` each piece, then `end`; both give spans: a text and what it is, marks included.

    A mark that is left open ends with its line. Apostrophes, inches (6"), bullets, products
    (2*3), **bold** and everything in `code` or a code fence open nothing.
    """

    def __init__(self) -> None:
        self._closing = ""  # the mark that ends the open speech
        self._is_action = False
        self._code = 0  # as many backticks opened it
        self._run = ""
        self._before = "\n"

    def feed(self, piece: str) -> list[Span]:
        """What of the text is known now."""
        found: list[Span] = []
        for character in piece:
            goes_on = character in "*`" and len(self._run) < _LONGEST_RUN
            if self._run and not (goes_on and character == self._run[0]):
                found.append(self._ended_run(character))
            if character in _HELD:
                self._run += character
            else:
                found.append((character, self._of(character)))
                self._before = character
        return merged(found)

    def end(self) -> list[Span]:
        """What waited for a next character."""
        return [self._ended_run("\n")] if self._run else []

    @property
    def _now(self) -> Mark:
        if self._code:
            return Mark.NONE
        speech = Mark.SPEECH if self._closing else Mark.NONE
        return speech | (Mark.ACTION if self._is_action else Mark.NONE)

    def _of(self, character: str) -> Mark:
        if character == "\n":
            self._closing, self._is_action = "", False
            self._code = self._code if self._code >= _FENCE else 0
        elif not self._code and self._closing == character:
            now, self._closing = self._now, ""
            return now
        elif not self._code and not self._closing:
            self._closing = _CLOSING.get(character, "")
        return self._now

    def _ended_run(self, after: str) -> Span:
        run, before, now = self._run, self._before, self._now
        self._run, self._before = "", run[-1]
        if run[0] == "`":
            if self._code in (0, len(run)):
                self._code = len(run) - self._code
            return run, now if self._code == 0 else self._now
        if self._code:
            return run, now
        opens = not after.isspace() and not before.isalnum()
        if run == '"':
            if self._closing == run:
                self._closing = ""
                return run, now
            if opens and not self._closing:
                self._closing = run
        elif len(run) in (1, 3):
            if self._is_action and not before.isspace():
                self._is_action = False
                return run, now
            self._is_action = self._is_action or opens
        return run, self._now


def merged(spans: list[Span]) -> list[Span]:
    """Neighbours that are the same kind of text as one span."""
    groups = groupby(spans, key=lambda span: span[1])
    return [("".join(text for text, _ in group), mark) for mark, group in groups]
