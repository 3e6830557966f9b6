"""Removes escape sequences and control characters from untrusted text as it streams."""

from __future__ import annotations

import re

# No terminal knows a longer sequence: what follows is text again, without the escape character.
_MAX_SEQUENCE = 1024

# The C1 control characters are one-character spellings of ESC and a letter (ECMA-48, 5.3).
_ESCAPE = "\x1b"
_C1_LETTER = {chr(code): chr(code - 0x40) for code in range(0x80, 0xA0)}
_STRING_OPENERS = frozenset("]PX^_")  # OSC, DCS, SOS, PM, APC: text up to BEL or ST
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class EscapeFilter:
    """`feed` it each piece of a text; it returns what is safe to show.

    Removed are control characters except newline and tab, and the whole sequence that an escape
    character starts, even if it ends in a later piece (ECMA-48: CSI sequences, control strings,
    two- and three-character sequences). A newline ends any open sequence, so a forged start hides
    no more than its own line.
    """

    def __init__(self) -> None:
        self._open = ""  # the open sequence so far, a C1 character as ESC and its letter

    def feed(self, piece: str) -> str:
        """The part of `piece` that is safe to show, given the pieces before it."""
        if not self._open and not _UNSAFE.search(piece):
            return piece
        return "".join(filter(None, map(self._character, piece)))

    def _character(self, character: str) -> str:
        if character == _ESCAPE and not self._in_string():
            self._open = _ESCAPE
        elif self._open:
            return self._in_sequence(character)
        elif character in _C1_LETTER:
            self._open = _ESCAPE
            return self._in_sequence(_C1_LETTER[character])
        elif not _UNSAFE.match(character):
            return character
        return ""

    def _in_string(self) -> bool:
        return self._open[1:2] in _STRING_OPENERS

    def _in_sequence(self, character: str) -> str:
        if character == "\n" or len(self._open) > _MAX_SEQUENCE:
            self._open = ""
            return self._character(character)
        self._open += character
        body = self._open[1:]
        if body[0] in _STRING_OPENERS:
            ended = character in "\x07\x9c" or self._open.endswith("\x1b\\")
        elif body[0] == "[":
            # Parameters are 0x30-0x3F, intermediates 0x20-0x2F; anything else is the final byte.
            ended = len(body) > 1 and not "\x20" <= character <= "\x3f"
        else:
            ended = not "\x20" <= character <= "\x2f"
        if ended:
            self._open = ""
        return ""
