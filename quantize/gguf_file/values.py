"""GGUF metadata in memory: a dict of key to typed Value, in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gguf import GGUFValueType


@dataclass(frozen=True)
class Value:
    """One metadata value with the exact GGUF type it has (or will have) on disk."""

    type: GGUFValueType
    data: Any
    """int, float, bool, str, bytes (a string that is not UTF-8), or a list of these."""
    item_type: GGUFValueType | None = None
    """The element type when `type` is ARRAY."""


Metadata = dict[str, Value]


def u32(data: int) -> Value:
    """An unsigned 32-bit integer."""
    return Value(GGUFValueType.UINT32, data)


def f32(data: float) -> Value:
    """A 32-bit float."""
    return Value(GGUFValueType.FLOAT32, data)


def boolean(data: bool) -> Value:
    """A boolean."""
    return Value(GGUFValueType.BOOL, data)


def string(data: str) -> Value:
    """A UTF-8 string."""
    return Value(GGUFValueType.STRING, data)


def array(item_type: GGUFValueType, data: list[Any]) -> Value:
    """A one-dimensional array."""
    return Value(GGUFValueType.ARRAY, data, item_type)
