"""Encode metadata and tensor table as the header of a GGUF file.

gguf.GGUFWriter writes straight to a file, drops empty arrays and puts general.architecture first.
Here the exact size must be known before anything is written, and a copied header must not change.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from .header import SCALARS
from .values import Metadata

ALIGNMENT = 32
VERSION = 3


def padded(nbytes: int) -> int:
    """`nbytes` rounded up to GGUF's default alignment."""
    return (nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def encode_header(
    metadata: Metadata,
    tensors: Sequence[tuple[str, tuple[int, ...], GGMLQuantizationType, int]],
) -> bytes:
    """The bytes from "GGUF" to the first tensor, padded.

    `tensors` are (name, shape in numpy order, type, offset from the first tensor in bytes).
    Format: ggml's docs/gguf.md, version 3.
    """
    parts = [b"GGUF", struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key), struct.pack("<I", value.type)]
        if value.type is GGUFValueType.ARRAY:
            assert value.item_type is not None
            parts.append(struct.pack("<IQ", value.item_type, len(value.data)))
            parts += _items(value.item_type, value.data)
        else:
            parts += _items(value.type, [value.data])
    for name, shape, kind, offset in tensors:
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        parts += [_text(name), dims, struct.pack("<IQ", kind, offset)]
    header = b"".join(parts)
    return header.ljust(padded(len(header)), b"\0")


def _items(kind: GGUFValueType, items: list[Any]) -> list[bytes]:
    if kind is GGUFValueType.STRING:
        return [_text(item) for item in items]
    return [np.array(items, SCALARS[kind]).tobytes()]


def _text(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw
