"""Word wrap of a marked text that comes in pieces, to a width that may change; pure."""

from __future__ import annotations

from collections.abc import Callable

from .graphemes import columns, extends
from .speech_marks import Mark, Span, merged

# A word that begins this near to the line's end is held back until it is whole: it may belong to
# the next line. All others are shown as they come; a word longer than this is broken.
_MARGIN = 20
_TAB = 8


class WordWrap:
    """Lines of at most `width()` columns: `feed` each piece, then `end`.

    The width is asked for before each word, so a line follows a terminal that is resized. Spaces
    at a line's end, and blank lines at the text's, are left out. Characters of two columns
    (Chinese, Japanese, Korean; emoji) may end a line anywhere.
    """

    def __init__(self, width: Callable[[], int]) -> None:
        self._asked_width = width
        self._column = 0
        self._gap: list[Span] = []  # line ends and spaces that wait for what follows them
        self._word: list[Span] = []
        self._cluster = ""
        self._in_word = False

    def feed(self, text: str, mark: Mark = Mark.NONE) -> list[Span]:
        """What of the text may be shown now."""
        found: list[Span] = []
        for character in text:
            found += self._character(character, mark)
        return merged(found)

    def end(self) -> list[Span]:
        """What was held back."""
        word, self._word, self._in_word = self._word, [], False
        return merged(self._placed(word)) if word else []

    @property
    def _width(self) -> int:
        return max(2, self._asked_width())

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
