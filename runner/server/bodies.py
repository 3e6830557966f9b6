"""JSON bodies of requests, which are untrusted: read within bounds, their fields with types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import anyio
from starlette.requests import Request

from .refusals import RequestError

MAX_BODY = 1 << 24
BODY_SECONDS = 60.0
_MAX_DEPTH = 64


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The body of a request. Raises RequestError if it is too large or does not arrive in time."""
    parts, size = [], 0
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise RequestError(
                        f"the body is larger than {limit >> 20} MiB; send a smaller one",
                        status=413,
                    )
                parts.append(part)
    except TimeoutError:
        raise RequestError(
            f"the body did not arrive within {BODY_SECONDS:g} seconds", status=408
        ) from None
    return b"".join(parts)


async def read_fields(request: Request) -> Fields:
    """The JSON object in the body of a request; an empty body is an empty one."""
    return Fields(json_object(await read_body(request)))


def json_object(data: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8 `data`. Raises RequestError."""
    try:
        found = json.loads(data.decode() or "{}", parse_constant=_refused)
    except RecursionError:
        raise RequestError("the body is nested too deeply") from None
    except ValueError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise RequestError("the body must be a JSON object")
    if not is_shallow(found):
        raise RequestError(f"the body is nested more than {_MAX_DEPTH} deep")
    return found


def is_shallow(value: object) -> bool:
    """Whether lists and objects in `value` are nested at most 64 deep."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        inner = [
            one.values() if isinstance(one, dict) else one
            for one in level
            if isinstance(one, dict | list)
        ]
        level = [item for items in inner for item in items]
    return not level


class Fields:
    """The fields of a JSON object. One that is missing or null has the default.

    Unknown fields are ignored. All methods raise RequestError, naming the field.
    """

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.members = members

    def given(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.members.get(name) is not None

    def text(self, name: str, default: str = "") -> str:
        """A text. Half a character, which JSON can spell (\\ud800), becomes "?"."""
        found = self.members.get(name)
        if found is None:
            return default
        if not isinstance(found, str):
            wrong(name, "a text")
        return clean(found)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        found = self.members.get(name)
        if found is None:
            return default
        if not isinstance(found, bool):
            wrong(name, "true or false")
        return found

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        found = self.members.get(name)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float):
            wrong(name, "a number")
        try:
            value = float(found)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            wrong(name, "a finite number")
        return value

    def whole(self, name: str, default: int) -> int:
        """A whole number; 40.0 is one, too."""
        value = self.number(name, default)
        if value != int(value):
            wrong(name, "a whole number")
        return int(value)

    def within(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.whole(name, default)
        if not low <= value <= high:
            wrong(name, f"from {low} to {high}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; one text is a list of it."""
        found = self.members.get(name)
        if found is None:
            return ()
        items = [found] if isinstance(found, str) else found
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            wrong(name, "a text or a list of texts")
        return tuple(map(clean, items))

    def items(self, name: str) -> list[Any]:
        """A list."""
        found = self.members.get(name)
        if found is None:
            return []
        if not isinstance(found, list):
            wrong(name, "a list")
        return found

    def table(self, name: str) -> Fields:
        """An object."""
        found = self.members.get(name)
        if found is None:
            return Fields({})
        if not isinstance(found, dict):
            wrong(name, "an object")
        return Fields(found)


def wrong(name: str, what: str) -> NoReturn:
    """Raise RequestError: the field `name` must be `what`."""
    raise RequestError(f"{name} must be {what}", field=name)


def clean(text: str) -> str:
    """`text` without halves of characters, which no tokenizer takes."""
    return text.encode(errors="replace").decode()


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")
