"""YAML files, which are untrusted: read within bounds.

Scalars are YAML 1.2's, with 1.1's yes, no, on and off: 1e-3 is a number, and 1:30 and 2024-01-01
are texts. There are no tags, aliases or merges, and keys are the texts that stand there.
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
# A longer one is read as a float: Python takes its time for so many digits, or refuses them.
_INTEGER = re.compile("[-+]?[0-9]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_yaml(path: Path, error: type[FrankenError], most_bytes: int) -> Any:
    """What a file holds: lists, mappings, texts, numbers, yes and no, and None.

    Raises `error`, in one line that names file and line, where it is larger than `most_bytes`, no
    YAML, holds more than 10,000 values, nests them more than four deep, or holds a key twice, an
    alias or a tag. Raises OSError.
    """
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise error(f"{path}: larger than {most_bytes} bytes; what is asked for is a short file")
    try:
        return _Document(data).read()
    except _RefusedError as problem:
        raise error(f"{path}, line {problem.line}: {problem}") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(problem, "problem", None) or getattr(problem, "reason", "cannot be read")
        raise error(f"{path}{where}: no YAML: {reason}") from None
    except (ValueError, OverflowError) as problem:  # such as the escape of no character
        raise error(f"{path}: no YAML that can be used: {problem}") from None


class _RefusedError(Exception):
    def __init__(self, event: yaml.Event, problem: str) -> None:
        super().__init__(problem)
        self.line = event.start_mark.line + 1


class _Document:
    """Values are built as their events come: what is refused has cost no more than to read it."""

    def __init__(self, data: bytes) -> None:
        self._events = yaml.parse(data, yaml.BaseLoader)
        self._values = 0

    def read(self) -> Any:
        """The only document's value, None where there is none."""
        next(self._events)  # the stream's start
        value = None
        for number, start in enumerate(self._until(yaml.StreamEndEvent)):
            if number:
                raise _RefusedError(start, "begins another document; leave it out")
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
            return [self._value(one, depth + 1) for one in self._until(yaml.SequenceEndEvent)]
        is_plain = event.implicit[0]
        return _plain(event.value) if is_plain else event.value

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in self._until(yaml.MappingEndEvent):
            self._check(key, depth)
            if not isinstance(key, yaml.ScalarEvent):
                raise _RefusedError(key, "has a key that is not text")
            if key.value in found:
                raise _RefusedError(key, f"{key.value[:60]!r} stands twice; leave one of them")
            found[key.value] = self._value(next(self._events), depth + 1)
        return found

    def _check(self, event: yaml.Event, depth: int) -> None:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise _RefusedError(event, f"holds more than {_MOST_VALUES} values; write less")
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(event, "holds a YAML alias (*name); write the text out")
        if event.tag is not None:
            raise _RefusedError(event, f"holds a YAML tag ({event.tag[:60]!r}); leave it out")
        if isinstance(event, yaml.ScalarEvent):
            if _SURROGATE.search(event.value):
                raise _RefusedError(event, "holds half a character (a surrogate); leave it out")
        elif depth == _MOST_DEPTH:
            raise _RefusedError(
                event, f"lists within lists, more than {_MOST_DEPTH} deep; write less"
            )


def _plain(text: str) -> Any:
    """What a scalar without quotes stands for."""
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
