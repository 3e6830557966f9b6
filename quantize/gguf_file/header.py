"""Read an untrusted GGUF header (metadata and tensor table) without reading the weights."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from franken_gguf.quantize.common.errors import GGUFError
from franken_gguf.quantize.common.files import not_the_file

from .values import Metadata, Value

# Limits on an untrusted header: llama.cpp's own where it has one (tensor names, dimensions, key
# lengths), otherwise several times what the largest known model needs.
MAX_HEADER_BYTES = 1 << 30
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 20
MAX_KEY_BYTES = (1 << 16) - 1
MAX_TENSOR_NAME_BYTES = 63
MAX_DIMS = 4
# An array of strings is read in blocks of 64 bytes for each string still to come (most tokens and
# merges are shorter), 1 MiB at most.
_READ_AHEAD_EACH, _READ_AHEAD = 64, 1 << 20

SCALARS: dict[GGUFValueType, str] = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}


@dataclass(frozen=True)
class TensorInfo:
    """One row of the tensor table."""

    name: str
    shape: tuple[int, ...]
    """In numpy order: the row length is last (GGUF stores it first)."""
    type: GGMLQuantizationType
    offset: int
    """From the start of the file, in bytes."""
    nbytes: int


@dataclass(frozen=True)
class Header:
    """The contents of a GGUF file apart from its weights."""

    path: Path
    version: int
    metadata: Metadata
    tensors: tuple[TensorInfo, ...]
    alignment: int
    file_bytes: int

    def integer(self, key: str, default: int | None = None) -> int:
        """The integer under `key`, or `default` if absent. Raises GGUFError for any other value."""
        data = self.metadata[key].data if key in self.metadata else default
        if isinstance(data, bool) or not isinstance(data, int):
            raise GGUFError(f"{self.path}: metadata key {key!r} is missing or not an integer")
        return data

    def text(self, key: str, default: str | None = None) -> str:
        """The string under `key`, or `default` if absent. Raises GGUFError for any other value."""
        data = self.metadata[key].data if key in self.metadata else default
        if not isinstance(data, str):
            raise GGUFError(f"{self.path}: metadata key {key!r} is missing or not a UTF-8 string")
        return data


class _Cursor:
    """Reads little-endian values; raises GGUFError at the end of the file or MAX_HEADER_BYTES."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.size = os.fstat(file.fileno()).st_size
        self.position = 0

    def take(self, count: int, what: str) -> bytes:
        if count > self.size - self.position:
            raise GGUFError(
                f"{self.path}: {what} needs {count} bytes at byte {self.position}, but the file "
                f"ends at {self.size}; it is truncated or damaged, download it again"
            )
        if self.position + count > MAX_HEADER_BYTES:
            raise GGUFError(
                f"{self.path}: the header is larger than {MAX_HEADER_BYTES} bytes; it is damaged"
            )
        self.position += count
        return self.file.read(count)

    def u32(self, what: str) -> int:
        return int(struct.unpack("<I", self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(struct.unpack("<Q", self.take(8, what))[0])

    def count(self, what: str, least_bytes: int, bound: int | None = None) -> int:
        """A number of items, checked: each takes at least `least_bytes` of the rest of the file."""
        count = self.u64(what)
        if count * least_bytes > self.size - self.position or (bound is not None and count > bound):
            raise GGUFError(
                f"{self.path}: {what} is {count}, more than the file can hold; it is "
                "damaged, download it again"
            )
        return count

    def text(self, what: str, bound: int | None = None) -> str | bytes:
        length = self.count(f"the length of {what}", 1, bound)
        raw = self.take(length, what)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def texts(self, count: int, what: str) -> list[str | bytes]:
        """`text` repeated `count` times, three times as fast: parsed from blocks read ahead."""
        length_at = struct.Struct("<Q").unpack_from
        found: list[str | bytes] = []
        while missing := count - len(found):
            left = min(self.size, MAX_HEADER_BYTES) - self.position
            block = self.file.read(min(left, _READ_AHEAD_EACH * missing, _READ_AHEAD))
            end, last = 0, len(block)
            for _ in range(missing):
                start = end + 8
                if start > last:
                    break
                (length,) = length_at(block, end)
                if start + length > last:
                    break
                end = start + length
                raw = block[start:end]
                try:
                    found.append(raw.decode())
                except UnicodeDecodeError:
                    found.append(raw)
            self.position += end
            self.file.seek(self.position)
            if len(found) < count:
                # The block, or the file, ends inside this string; the checked read tells which.
                found.append(self.text(what))
        return found

    def name(self, what: str, bound: int) -> str:
        text = self.text(what, bound)
        if isinstance(text, bytes) or not text:
            raise GGUFError(f"{self.path}: {what} is empty or not UTF-8; the file is damaged")
        return text

    def value_type(self, what: str) -> GGUFValueType:
        number = self.u32(what)
        try:
            return GGUFValueType(number)
        except ValueError:
            raise GGUFError(
                f"{self.path}: {what} is {number}, which is not a GGUF type; the file is damaged"
            ) from None

    def value(self, key: str) -> Value:
        kind = self.value_type(f"the type of {key!r}")
        if kind is GGUFValueType.STRING:
            return Value(kind, self.text(f"{key!r}"))
        if kind is not GGUFValueType.ARRAY:
            return Value(kind, self.numbers(kind, 1, key)[0])
        item = self.value_type(f"the item type of {key!r}")
        if item is GGUFValueType.ARRAY:
            raise GGUFError(
                f"{self.path}: {key!r} is an array of arrays, which llama.cpp cannot load"
            )
        if item is GGUFValueType.STRING:
            count = self.count(f"the number of items of {key!r}", 8)
            return Value(kind, self.texts(count, f"an item of {key!r}"), item)
        count = self.count(f"the number of items of {key!r}", np.dtype(SCALARS[item]).itemsize)
        return Value(kind, self.numbers(item, count, key), item)

    def numbers(self, kind: GGUFValueType, count: int, key: str) -> list[int | float | bool]:
        dtype = np.dtype(SCALARS[kind])
        raw = self.take(count * dtype.itemsize, f"{key!r}")
        numbers: list[int | float | bool] = np.frombuffer(raw, dtype).tolist()
        return numbers


def read_header(path: Path) -> Header:
    """Read and check everything before the weights of the GGUF file `path`.

    Format: ggml's docs/gguf.md, versions 2 and 3, little-endian. Counts and lengths are
    checked against the size of the file, and every tensor against the file's end and the other
    tensors, so a Header never points outside its file. Raises GGUFError.
    """
    try:
        with path.open("rb") as file:
            return _read(_Cursor(file, path))
    except FileNotFoundError:
        raise GGUFError(f"{path}: no such file") from None
    except OSError as error:
        raise GGUFError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read(cursor: _Cursor) -> Header:
    path = cursor.path
    if (magic := cursor.file.read(4)) != b"GGUF":
        why = not_the_file(magic + cursor.file.read(30)) or "it does not start with 'GGUF'"
        raise GGUFError(f"{path}: not a GGUF file ({why})")
    cursor.position = 4
    version = cursor.u32("the version")
    if version not in (2, 3):
        if version & 0xFFFF == 0 and version:
            raise GGUFError(f"{path}: big-endian GGUF is not supported; use a little-endian file")
        raise GGUFError(f"{path}: GGUF version {version} is not supported; only 2 and 3 are")
    # A tensor's entry takes at least 8 + 1 + 4 + 8 + 4 + 8 bytes, a key's 8 + 1 + 4 + 1.
    tensor_count = cursor.count("the number of tensors", 33, MAX_TENSORS)
    key_count = cursor.count("the number of metadata keys", 14, MAX_KEYS)

    metadata: Metadata = {}
    for _ in range(key_count):
        key = cursor.name("a metadata key", MAX_KEY_BYTES)
        if key in metadata:
            raise GGUFError(f"{path}: metadata key {key!r} appears twice; the file is damaged")
        metadata[key] = cursor.value(key)

    alignment_value = metadata.get("general.alignment")
    alignment = 32 if alignment_value is None else alignment_value.data
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & alignment - 1:
        raise GGUFError(f"{path}: general.alignment {alignment!r} is not a power of two")

    entries = [_tensor_entry(cursor) for _ in range(tensor_count)]
    start = (cursor.position + alignment - 1) // alignment * alignment
    tensors = tuple(_placed(entry, start, alignment, cursor) for entry in entries)
    _check_layout(tensors, path)
    return Header(path, version, metadata, tensors, alignment, cursor.size)


def _tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.name("a tensor name", MAX_TENSOR_NAME_BYTES)
    n_dims = cursor.u32(f"the dimensions of {name!r}")
    if not 1 <= n_dims <= MAX_DIMS:
        raise GGUFError(
            f"{cursor.path}: tensor {name!r} has {n_dims} dimensions, not 1 to 4; "
            "the file is damaged"
        )
    shape = tuple(cursor.u64(f"the shape of {name!r}") for _ in range(n_dims))[::-1]
    if not all(shape) or prod(shape) >= 1 << 62:
        raise GGUFError(f"{cursor.path}: tensor {name!r} has the invalid shape {shape}")
    return name, shape, cursor.u32(f"the type of {name!r}"), cursor.u64(f"the offset of {name!r}")


def _placed(
    entry: tuple[str, tuple[int, ...], int, int], start: int, alignment: int, cursor: _Cursor
) -> TensorInfo:
    name, shape, type_id, offset = entry
    try:
        kind = GGMLQuantizationType(type_id)
    except ValueError:
        raise GGUFError(f"{cursor.path}: tensor {name!r} has the unknown type {type_id}") from None
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    if shape[-1] % block_len:
        raise GGUFError(
            f"{cursor.path}: tensor {name!r} has rows of {shape[-1]} weights, not a multiple "
            f"of {kind.name}'s block of {block_len}; the file is damaged"
        )
    nbytes = prod(shape) // block_len * block_bytes
    if offset % alignment:
        raise GGUFError(
            f"{cursor.path}: tensor {name!r} has offset {offset}, not a multiple of "
            f"general.alignment {alignment}; the file is damaged"
        )
    if start + offset + nbytes > cursor.size:
        raise GGUFError(
            f"{cursor.path}: tensor {name!r} ends at byte {start + offset + nbytes}, but "
            f"the file ends at {cursor.size}; it is truncated or damaged, download it again"
        )
    return TensorInfo(name, shape, kind, start + offset, nbytes)


def _check_layout(tensors: tuple[TensorInfo, ...], path: Path) -> None:
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise GGUFError(f"{path}: a tensor name appears twice; the file is damaged")
    for first, second in pairwise(sorted(tensors, key=lambda tensor: tensor.offset)):
        if first.offset + first.nbytes > second.offset:
            raise GGUFError(
                f"{path}: tensors {first.name!r} and {second.name!r} overlap; the file is damaged"
            )
