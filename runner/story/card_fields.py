"""Untrusted JSON of cards and lorebooks: bounded, then read field by field, by kind; pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError

MAX_JSON_BYTES = 1 << 25
# Each of these may become an object of Python's, of 56 bytes and more.
_STRUCTURE = "[{,"
_MAX_STRUCTURE = 1 << 20
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MAX_NAME = 100


class StoryError(FrankenError):
    """A card or a lorebook cannot be read; the text says why, and how to fix it."""


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object that `data` spells in UTF-8. Raises StoryError."""
    if len(data) > MAX_JSON_BYTES:
        raise StoryError(f"its JSON is larger than {MAX_JSON_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
        if sum(map(text.count, _STRUCTURE)) > _MAX_STRUCTURE:
            raise StoryError(f"its JSON has more than {_MAX_STRUCTURE} parts")
        found = json.loads(text)
    except UnicodeDecodeError:
        raise StoryError("it is not UTF-8 text") from None
    except RecursionError:
        raise StoryError("its JSON is nested too deeply") from None
    except ValueError as error:
        raise StoryError(f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise StoryError("its JSON is not an object")
    return found


def clean(text: str) -> str:
    """`text` with newlines alone as line ends, without control characters and half characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text).encode(errors="replace").decode()


def one_line(text: str) -> str:
    """`text` as a name: one line, not long."""
    return " ".join(clean(text).split())[:_MAX_NAME]


class Fields:
    """A JSON object's members by the kind they shall have.

    A member that is there and of another kind counts as missing, and its name goes into `odd`.
    """

    def __init__(self, found: Mapping[str, Any], odd: list[str], where: str = "") -> None:
        self._found = found
        self.where = where
        self.odd = odd

    def __contains__(self, name: str) -> bool:
        return self._found.get(name) is not None

    @property
    def members(self) -> Mapping[str, Any]:
        """All of it, as it came."""
        return self._found

    def truth(self, name: str) -> bool:
        """Whether it is there, and neither false, nothing nor empty, of whatever kind it is."""
        return bool(self._found.get(name))

    def is_text(self, name: str) -> bool:
        """Whether it is a text."""
        return isinstance(self._found.get(name), str)

    def text(self, name: str, default: str = "") -> str:
        """A text, cleaned."""
        found = self._member(name, str)
        return default if found is None else clean(found)

    def number(self, name: str, default: float | None = None) -> float | None:
        """A finite number, also one that is written as text."""
        found = self._found.get(name)
        if found is None or found == "":
            return default
        try:
            number = math.nan if isinstance(found, bool) else float(found)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
        self._is_odd(name)
        return default

    def whole(self, name: str, default: int, low: int = 0, high: int = 1 << 31) -> int:
        """A whole number, brought between `low` and `high`."""
        number = self.number(name, default)
        assert number is not None
        return int(min(max(number, low), high))

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        found = self._member(name, bool)
        return default if found is None else bool(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list's texts that are not empty; one text, as some tools write, is split at commas."""
        found = self._found.get(name)
        if isinstance(found, str):
            found = found.split(",")
        if found is None:
            return ()
        if not isinstance(found, list):
            self._is_odd(name)
            return ()
        texts = [clean(one) for one in found if isinstance(one, str)]
        if len(texts) < len(found):
            self._is_odd(name)
        return tuple(text for text in texts if text.strip())

    def table(self, name: str) -> Fields:
        """An object, an empty one where it is missing."""
        found = self._member(name, dict)
        return Fields(found or {}, self.odd, f"{self.where}{name}.")

    def tables(self, name: str) -> Iterator[Fields]:
        """The objects of a list, or of an object whose names are numbers, as SillyTavern has it."""
        found = self._found.get(name)
        if isinstance(found, dict):
            found = list(found.values())
        if found is not None and not isinstance(found, list):
            self._is_odd(name)
            found = []
        for number, one in enumerate(found or []):
            if isinstance(one, dict):
                yield Fields(one, self.odd, f"{self.where}{name}[{number}].")
            else:
                self._is_odd(f"{name}[{number}]")

    def _member(self, name: str, kind: type) -> Any:
        found = self._found.get(name)
        if found is None or isinstance(found, kind):
            return found
        self._is_odd(name)
        return None

    def _is_odd(self, name: str) -> None:
        self.odd.append(one_line(self.where + name))


def read_bytes(path: Path, most: int) -> bytes:
    """All of a regular file of at most `most` bytes. Raises StoryError, naming it."""
    try:
        if not path.is_file():
            reason = "is not a file" if path.exists() else "there is no such file"
            raise StoryError(f"{path}: {reason}")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise StoryError(f"{path}: {error.strerror}") from None
    if len(data) > most:
        raise StoryError(f"{path}: it is larger than {most >> 20} MiB")
    return data
