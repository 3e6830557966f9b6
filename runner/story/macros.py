"""{{user}}, {{char}} and the other macros of cards and lorebooks, as plain substitution; pure.

The text that replaces a macro is not searched for macros again, and no macro is executed: the texts
of a card are data (SillyTavern's macros, and "curly braced syntaxes" in the V3 specification).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from random import Random

from .card_fields import StoryError

_TOKEN = re.compile(r"\{\{|\}\}|<(?:user|bot|char)>", re.IGNORECASE)
_ROLL = re.compile(r"(?:(\d{0,3})d)?(\d{1,6})([+-]\d{1,6})?", re.IGNORECASE)
_TRIM = "\0"  # `clean` has removed it from every text
_MAX_NESTED = 32
_MAX_CHARACTERS = 1 << 22
_MAX_DICE = 100
_TIMES = {
    "time": "%H:%M",
    "date": "%d %B %Y",
    "weekday": "%A",
    "isotime": "%H:%M",
    "isodate": "%Y-%m-%d",
}


class Macros:
    """Replaces macros. `words` maps macros without an argument ("user", "char") to their text.

    {{random}} and {{roll}} use `dice`; {{pick}} depends on `salt` and its own text only, so it
    stays the same in a chat. `now` is the time for {{time}} and {{date}}.
    """

    def __init__(
        self, words: Mapping[str, str], *, dice: Random, salt: str, now: datetime | None = None
    ) -> None:
        self._words = {"newline": "\n", "noop": "", "trim": _TRIM, "original": "", **words}
        self._words["bot"] = self._words["char"]
        self._dice = dice
        self._salt = salt
        self._now = now or datetime.now()

    def expand(self, text: str) -> str:
        """`text` with every known macro replaced, the inner before the outer; others stay.

        Raises StoryError if the result is too long.
        """
        open_macros: list[list[str]] = [[]]
        place = added = 0
        for token in _TOKEN.finditer(text):
            open_macros[-1].append(text[place : token.start()])
            place = token.end()
            if token[0] == "{{" and len(open_macros) <= _MAX_NESTED:
                open_macros.append([])
                continue
            if token[0] == "}}" and len(open_macros) > 1:
                macro = "".join(open_macros.pop())
                found = self._value(macro)
            else:
                macro = token[0]
                found = self._words.get(macro.strip("<>").lower(), macro)
            added += max(0, len(found) - len(macro) - 4)
            if added > _MAX_CHARACTERS:
                raise StoryError(f"its macros expand to more than {_MAX_CHARACTERS} characters")
            open_macros[-1].append(found)
        open_macros[-1].append(text[place:])
        first, *others = "{{".join(map("".join, open_macros)).split(_TRIM)
        if not others:
            return first
        middle = "".join(one.strip("\n") for one in others[:-1])
        return first.rstrip("\n") + middle + others[-1].lstrip("\n")

    def _value(self, macro: str) -> str:
        name, separator, rest = _parts(macro)
        if macro.lstrip().startswith("//") or name in ("comment", "hidden_key"):
            return ""
        if separator and name in ("random", "pick"):
            dice = self._dice if name == "random" else Random(f"{self._salt} {macro}")
            return dice.choice(_choices(separator, rest))
        if separator and name == "roll":
            return self._roll(rest, macro)
        if separator and name == "reverse":
            return rest[::-1]
        if separator:
            return f"{{{{{macro}}}}}"
        if name in self._words:
            return self._words[name]
        return self._now.strftime(_TIMES[name]) if name in _TIMES else f"{{{{{macro}}}}}"

    def _roll(self, dice: str, macro: str) -> str:
        found = _ROLL.fullmatch(dice.strip())
        count, sides = (int(found[1] or 1), int(found[2])) if found else (0, 0)
        if found is None or not 1 <= count <= _MAX_DICE or sides < 1:
            return f"{{{{{macro}}}}}"
        return str(sum(self._dice.randint(1, sides) for _ in range(count)) + int(found[3] or 0))


def _parts(macro: str) -> tuple[str, str, str]:
    """Name, separator and argument: random:a,b and random::a::b, roll:d6 and roll d6."""
    found = re.match(r"\s*([a-z_]+)(::|:|\s+(?=\S))?(.*)", macro, re.IGNORECASE | re.DOTALL)
    if found is None:
        return "", "", ""
    name, separator, rest = found[1].lower(), found[2] or "", found[3]
    if not separator and rest.strip():
        return "", "", ""
    return name, separator, rest


def _choices(separator: str, rest: str) -> list[str]:
    if separator == "::" and "::" in rest:
        return [one.strip() for one in rest.split("::")]
    return [one.replace("\\,", ",").strip() for one in re.split(r"(?<!\\),", rest)]
