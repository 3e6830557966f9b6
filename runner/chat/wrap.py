"""Word wrap of a text that comes in pieces, by newlines alone; pure."""

from __future__ import annotations

from rich.cells import cell_len

# A word that begins this near to the line's end is held back until it is whole: it may belong to
# the next line. All others are shown as they come; a word longer than this is broken.
_MARGIN = 20


class WordWrap:
    """Lines of at most `width` columns: `feed` each piece, then `end`.

    Characters of two columns (Chinese, Japanese, Korean; emoji) may end a line anywhere.
    """

    def __init__(self, width: int) -> None:
        self._width = max(2, width)
        self._column = 0
        self._held = ""
        self._in_word = False

    def feed(self, piece: str) -> str:
        """What of the text may be shown now."""
        return "".join(map(self._character, piece))

    def end(self) -> str:
        """What was held back."""
        self._in_word = False
        held, self._held = self._held, ""
        return self._placed(held) if held else ""

    def _character(self, character: str) -> str:
        if character == "\n":
            shown, self._column = self.end(), 0
            return shown + "\n"
        if character in " \t":
            shown = self.end()
            # A space at the line's end is the line's end.
            return shown + self._placed(" ") if self._column < self._width else shown
        if cell_len(character) == 2:
            return self.end() + self._placed(character)
        if not self._held and (self._in_word or self._column + _MARGIN <= self._width):
            self._in_word = True
            return self._placed(character)
        self._held += character
        return self.end() if cell_len(self._held) >= self._width else ""

    def _placed(self, text: str) -> str:
        cells = cell_len(text)
        if self._column and self._column + cells > self._width:
            self._column = cells
            return "\n" + text
        self._column += cells
        return text
