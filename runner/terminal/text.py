"""Formats sizes, counts and durations, and escapes control characters, for a terminal."""

from __future__ import annotations

import unicodedata

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_JOINER = "\N{ZERO WIDTH JOINER}"
_EMOJI = ("So", "Sm")  # the categories of characters that stand beside a joiner
_EMOJI_MODIFIERS = "\N{VARIATION SELECTOR-16}\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"


def size(nbytes: float) -> str:
    """Bytes in binary units: 1.2 GiB."""
    step = 0
    while nbytes >= 1024 and step < len(_BINARY) - 1:
        nbytes /= 1024
        step += 1
    return f"{nbytes:.0f} B" if step == 0 else f"{nbytes:.1f} {_BINARY[step]}"


def count(number: float) -> str:
    """A count as in model names: 135 M, 24.2 B."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= scale:
            digits = 1 if number < 100 * scale else 0
            return f"{number / scale:.{digits}f} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Seconds as on a clock: 0:07, 12:34, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str, keep: str = "") -> str:
    """`text` with every control, format and surrogate character escaped, except those in `keep`.

    Newlines become \\n, too: text from a file must not forge lines of our output. The only format
    character that stays is the joiner inside an emoji.
    """
    return "".join(
        char
        if char in keep
        or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        or (char == _JOINER and _joins_emoji(text, place))
        else _escape(char)
        for place, char in enumerate(text)
    )


def _joins_emoji(text: str, place: int) -> bool:
    before = text[max(0, place - 3) : place].rstrip(_EMOJI_MODIFIERS)[-1:]
    after = text[place + 1 : place + 2]
    return bool(before and after) and all(unicodedata.category(c) in _EMOJI for c in before + after)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
