"""Read untrusted YAML: size, depth and number of values are limited.

Scalars follow YAML 1.2, plus 1.1's yes, no, on and off: 1e-3 is a number; 1:30 and 2024-01-01 are
text. Tags, aliases and merge keys are not supported, and a key is always text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import FrankenError

_MOST_VALUES = 10_000
_MOST_DEPTH = 4
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null")),
    **dict.fromkeys(("yes", "true", "on"), True),
    **dict.fromkeys(("no", "false", "off"), False),
    **dict.fromkeys((".inf", "+.inf"), math.inf),
    "-.inf": -math.inf,
    ".nan": math.nan,
}
# A longer one is read as a float: Python is slow to parse thousands of digits, or refuses to.
_INTEGER = re.compile("[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_yaml(path: Path, error: type[FrankenError], most_bytes: int) -> Any:
    """The document in a file: lists, dicts, strings, numbers, booleans and None.

    Raises `error`, naming file and line, if the file is larger than `most_bytes`, is not YAML, has
    more than 10,000 values or more than four levels, or has a duplicate key, an alias or a tag.
    Raises OSError.
    """
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise error(f"{path}: larger than {most_bytes} bytes; shorten it")
    try:
        return _Document(data).read()
    except _RefusedError as problem:
        raise error(f"{path}, line {problem.line}: {problem}") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(problem, "problem", None) or getattr(problem, "reason", "cannot be read")
        raise error(f"{path}{where}: not valid YAML: {reason}") from None
    except (ValueError, OverflowError) as problem:  # such as an escape beyond Unicode
        raise error(f"{path}: not valid YAML: {problem}") from None


class _RefusedError(Exception):
    def __init__(self, event: yaml.Event, problem: str) -> None:
        super().__init__(problem)
        self.line = event.start_mark.line + 1


class _Document:
    """Builds the values as the parser's events arrive, so a document over a limit stops early."""

    def __init__(self, data: bytes) -> None:
        self._events = yaml.parse(data, yaml.BaseLoader)
        self._values = 0

    def read(self) -> Any:
        """The only document's value, or None for an empty stream."""
        next(self._events)  # the stream's start
        value = None
        for number, start in enumerate(self._until(yaml.StreamEndEvent)):
            if number:
                raise _RefusedError(start, "begins a second document; remove it")
            value = self._value(next(self._events), 0)
            next(self._events)  # the document's end
        return value

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _value(self, event: yaml.Event, depth: int) -> Any:
        self._check(event, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        is_plain = event.implicit[0]
        return _plain(event.value) if is_plain else event.value

    def _mapping(self, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key in self._until(yaml.MappingEndEvent):
            self._check(key, depth)
            if not isinstance(key, yaml.ScalarEvent):
                raise _RefusedError(key, "has a key that is a list or a mapping; use text")
            if key.value in mapping:
                raise _RefusedError(key, f"{key.value[:60]!r} appears twice; remove one of them")
            mapping[key.value] = self._value(next(self._events), depth + 1)
        return mapping

    def _check(self, event: yaml.Event, depth: int) -> None:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _RefusedError(event, f"holds more than {_MOST_VALUES} values; shorten it")
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(event, "holds a YAML alias (*name); write out the value instead")
        if event.tag is not None:
            raise _RefusedError(event, f"holds a YAML tag ({event.tag[:60]!r}); remove it")
        if isinstance(event, yaml.ScalarEvent):
            if _SURROGATE.search(event.value):
                raise _RefusedError(event, "holds an unpaired surrogate; remove it")
        elif depth == _MOST_DEPTH:
            raise _RefusedError(
                event, f"nests lists or mappings more than {_MOST_DEPTH} deep; flatten them"
            )


def _plain(text: str) -> Any:
    """The value of a scalar without quotes."""
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
