"""Wraps streamed text between words, to a width that can change; pure."""

from __future__ import annotations

from collections.abc import Callable

from .graphemes import columns, extends
from .speech_marks import Mark, Span, merged

# A word that begins within this many columns of the line's end is held back until it is complete,
# since it may belong to the next line. All others are shown at once; longer ones are broken.
_MARGIN = 20
_TAB = 8


class WordWrap:
    """`feed` it each piece, then call `end`; lines get at most `width()` columns.

    `width` is called before each word, so that lines follow a resized terminal. Spaces at the end
    of a line and blank lines at the end of the text are dropped. Lines can break between any two
    characters of two columns (Chinese, Japanese, Korean, emoji).
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._terminal_width = width
        self._column = 0
        self._gap: list[Span] = []  # newlines and spaces, held back until text follows
        self._word: list[Span] = []
        self._cluster = ""
        self._in_word = False

    def feed(self, text: str, mark: Mark = Mark.NONE) -> list[Span]:
        """The spans that can be shown now."""
        found: list[Span] = []
        for character in text:
            found += self._character(character, mark)
        return merged(found)

    def end(self) -> list[Span]:
        """The rest, which was held back."""
        word, self._word, self._in_word = self._word, [], False
        return merged(self._placed(word)) if word else []

    @property
    def _width(self) -> int:
        return max(2, self._terminal_width())

    def _character(self, character: str, mark: Mark) -> list[Span]:
        if character in " \t\n":
            shown = self.end()
            self._cluster = ""
            if character == "\n":
                while self._gap and self._gap[-1][0] == " ":
                    self._gap.pop()
            self._gap += self._tab(mark) if character == "\t" else [(character, mark)]
            return shown
        if extends(self._cluster, character):
            return self._extended(character, mark)
        self._cluster = character
        if columns(character) == 2:
            shown = self.end()
            return shown + self._placed([(character, mark)])
        column = 0 if any(text == "\n" for text, _ in self._gap) else self._column
        fits = column + len(self._gap) + _MARGIN <= self._width
        if not self._word and (self._in_word or fits):
            self._in_word = True
            return self._placed([(character, mark)])
        self._word.append((character, mark))
        return self.end() if _length(self._word) >= self._width else []

    def _extended(self, character: str, mark: Mark) -> list[Span]:
        before, self._cluster = self._cluster, self._cluster + character
        if self._word:
            self._word.append((character, mark))
            return []
        self._column += columns(self._cluster) - columns(before)
        return [(character, mark)]

    def _tab(self, mark: Mark) -> list[Span]:
        return [(" ", mark)] * (_TAB - (self._column + len(self._gap)) % _TAB)

    def _placed(self, word: list[Span]) -> list[Span]:
        ends = [span for span in self._gap if span[0] == "\n"]
        spaces = [span for span in self._gap if span[0] == " "]
        self._gap, cells = [], _length(word)
        column = 0 if ends else self._column
        if column + len(spaces) + cells > self._width:
            ends = ends or [("\n", Mark.NONE)] * bool(column)
            column, spaces = 0, []
        self._column = column + len(spaces) + cells
        return ends + spaces + word


def _length(word: list[Span]) -> int:
    return columns("".join(text for text, _ in word))
