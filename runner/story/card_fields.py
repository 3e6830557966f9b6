"""Reads the untrusted JSON of cards and lorebooks within bounds, field by field, by type."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError

MAX_JSON_BYTES = 1 << 25
# Each of these can become a Python object of 56 bytes or more.
_STRUCTURE = "[{,"
_MAX_STRUCTURE = 1 << 20
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MAX_NAME = 100


class StoryError(FrankenError):
    """A card or a lorebook cannot be read."""


class NotJsonError(StoryError):
    """A file that was expected to be JSON is of another kind, which the text names."""


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data` (UTF-8). Raises StoryError."""
    if len(data) > MAX_JSON_BYTES:
        raise StoryError(f"its JSON is larger than {MAX_JSON_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
        if sum(map(text.count, _STRUCTURE)) > _MAX_STRUCTURE:
            raise StoryError(f"its JSON has more than {_MAX_STRUCTURE} elements")
        found = json.loads(text)
    except UnicodeDecodeError:
        raise NotJsonError("it is not UTF-8 text") from None
    except RecursionError:
        raise StoryError("its JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise NotJsonError("it is empty") from None
        if not text.lstrip().startswith(("{", "[")):
            raise NotJsonError("it is text, not JSON") from None
        where = f"line {error.lineno}, column {error.colno}"
        raise StoryError(f"its JSON is damaged at {where}") from None
    except ValueError:  # Python refuses to read an integer of thousands of digits
        raise StoryError("its JSON has a number of too many digits") from None
    if not isinstance(found, dict):
        raise StoryError("its JSON is not an object")
    return found


def clean(text: str) -> str:
    """`text` with newlines as line ends, without control characters and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text).encode(errors="replace").decode()


def one_line(text: str) -> str:
    """`text` as a name: one line of at most 100 characters."""
    return " ".join(clean(text).split())[:_MAX_NAME]


class Fields:
    """The members of a JSON object, by their expected type.

    A member of the wrong type counts as missing, and its name is added to `odd`.
    """

    def __init__(self, found: Mapping[str, Any], odd: list[str], where: str = "") -> None:
        self._found = found
        self.where = where
        self.odd = odd

    def __contains__(self, name: str) -> bool:
        return self._found.get(name) is not None

    @property
    def members(self) -> Mapping[str, Any]:
        """The object itself, unchecked."""
        return self._found

    def truth(self, name: str) -> bool:
        """Whether the member is true, not empty and not zero, whatever its type."""
        return bool(self._found.get(name))

    def is_text(self, name: str) -> bool:
        """Whether the member is a string."""
        return isinstance(self._found.get(name), str)

    def text(self, name: str, default: str = "") -> str:
        """A string, cleaned."""
        found = self._member(name, str)
        return default if found is None else clean(found)

    def number(self, name: str, default: float | None = None) -> float | None:
        """A finite number; it may be written as a string."""
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
        """A whole number, clamped to `low` and `high`."""
        number = self.number(name, default)
        assert number is not None
        return int(min(max(number, low), high))

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean."""
        found = self._member(name, bool)
        return default if found is None else bool(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """The non-empty strings of a list, or of a single string, which is split at commas."""
        found = self._found.get(name)
        if isinstance(found, str):
            found = found.split(",")
        if found is None:
            return ()
        if not isinstance(found, list):
            self._is_odd(name)
            return ()
        texts = [clean(text) for text in found if isinstance(text, str)]
        if len(texts) < len(found):
            self._is_odd(name)
        return tuple(text for text in texts if text.strip())

    def table(self, name: str) -> Fields:
        """An object; an empty one if it is missing."""
        found = self._member(name, dict)
        return Fields(found or {}, self.odd, f"{self.where}{name}.")

    def tables(self, name: str) -> Iterator[Fields]:
        """The objects in a list, or in an object with numbers as names (SillyTavern)."""
        found = self._found.get(name)
        if isinstance(found, dict):
            found = list(found.values())
        if found is not None and not isinstance(found, list):
            self._is_odd(name)
            found = []
        for number, item in enumerate(found or []):
            if isinstance(item, dict):
                yield Fields(item, self.odd, f"{self.where}{name}[{number}].")
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


def read_bytes(path: Path, limit: int, hint: str = "") -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises StoryError, naming it; `hint` ends the error for a larger one.
    """
    try:
        if not path.is_file():
            reason = "not a file" if path.exists() else "no such file"
            raise StoryError(f"{path}: {reason}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise StoryError(f"{path}: {error.strerror}") from None
    if len(data) > limit:
        raise StoryError(f"{path}: it is larger than {limit >> 20} MiB{hint}")
    return data
