"""Finds quoted speech and *actions* in streamed text, as SillyTavern does; pure."""

from __future__ import annotations

from enum import Flag, auto
from itertools import groupby

_CLOSING = {'"': '"', "“": "”", "«": "»", "「": "」", "『": "』"}
# What these mean depends on the character after them, so they are held back until it arrives.
_HELD = '*`"'
_LONGEST_RUN = 8  # a longer run is a horizontal rule
_FENCE = 3


class Mark(Flag):
    """The kind of a part of a text."""

    NONE = 0
    SPEECH = auto()
    ACTION = auto()


Span = tuple[str, Mark]


class MarkedText:
    """`feed` it each piece, then call `end`; both return spans of text and kind, marks included.

    An open mark ends with its line. Apostrophes, inches (6"), bullets, products (2*3), **bold**
    and everything in `code` or a code fence are plain text.
    """

    def __init__(self) -> None:
        self._closing = ""  # the mark that ends the open speech
        self._is_action = False
        self._code = 0  # the number of backticks that opened it
        self._run = ""
        self._before = "\n"

    def feed(self, piece: str) -> list[Span]:
        """The spans that are certain now."""
        found: list[Span] = []
        for character in piece:
            continues = character in "*`" and len(self._run) < _LONGEST_RUN
            if self._run and not (continues and character == self._run[0]):
                found.append(self._ended_run(character))
            if character in _HELD:
                self._run += character
            else:
                found.append((character, self._of(character)))
                self._before = character
        return merged(found)

    def end(self) -> list[Span]:
        """The rest, which was held back."""
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
    """`spans` with neighbours of the same kind joined."""
    groups = groupby(spans, key=lambda span: span[1])
    return [("".join(text for text, _ in group), mark) for mark, group in groups]
