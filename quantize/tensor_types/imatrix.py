"""Read importance matrices, in both of llama.cpp's file formats.

    GGUF, general.type "imatrix"                     legacy .dat, little-endian
    imatrix.datasets, .chunk_count, .chunk_size      int32 number of entries
    NAME.in_sum2  F32 [matrices, cols]               each: int32 length, name, int32 calls,
    NAME.counts   F32 [matrices, 1]                        int32 number of values, float32 values
                                                     then, optional: int32 chunks,
                                                           int32 length, dataset

An importance is the mean square of a column's input: the sum of squares divided by the number of
tokens (llama.cpp, common/imatrix-loader.cpp and tools/quantize/quantize.cpp).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.errors import ImatrixError
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo, read_header
from franken_gguf.quantize.gguf_file.values import Metadata, Value, u32

# llama-quantize passes on the file and dataset names in fields of 128 bytes, the last one zero.
_MAX_TEXT_BYTES = 127
_MAX_ENTRIES = 1 << 20
_MAX_NAME_BYTES = 4096


@dataclass(frozen=True)
class Imatrix:
    """The contents of an importance matrix file."""

    path: Path
    values: Mapping[str, F32]
    """By tensor name: float32 [matrices * cols], one matrix for each expert."""
    unreached: Mapping[str, tuple[int, ...]]
    """By tensor name: the experts that no calibration token was routed to; their values are 1."""
    chunks: int
    dataset: bytes | None

    def metadata(self) -> Metadata:
        """The keys that llama-quantize adds to a file made with this imatrix, in its order."""
        keys = {"quantize.imatrix.file": _text(str(self.path).encode())}
        if self.dataset is not None:
            keys["quantize.imatrix.dataset"] = _text(self.dataset)
        keys["quantize.imatrix.entries_count"] = u32(len(self.values))
        if self.chunks > 0:
            keys["quantize.imatrix.chunks_count"] = u32(self.chunks)
        return keys

    def for_tensors(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, F32]:
        """By tensor name: float32 [matrices, cols], for the tensors that have importances.

        `shapes` are the model's matrices in numpy order. Raises ImatrixError if no name matches, or
        if an entry's size does not fit its tensor. An entry of the wrong size for the token
        embeddings is ignored, as by llama-quantize.
        """
        if not self.values.keys() & shapes.keys():
            raise ImatrixError(
                f"{self.path}: none of its {len(self.values)} entries matches a tensor of this "
                "model; use an importance matrix made for this model"
            )
        found = {}
        for name in self.values.keys() & shapes.keys():
            *matrices, _, cols = shapes[name]
            expected = prod(matrices) * cols
            if self.values[name].size == expected:
                found[name] = self.values[name].reshape(prod(matrices), cols)
            elif name != "token_embd.weight":
                raise ImatrixError(
                    f"{self.path}: {name!r} has {self.values[name].size} values, but the tensor "
                    f"needs {expected}; use an importance matrix made for this model"
                )
        return found


def read_imatrix(path: Path) -> Imatrix:
    """Read a GGUF or legacy importance matrix. Raises ImatrixError or GGUFError."""
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
            if not is_gguf:
                file.seek(0)
                return _read_legacy(path, file)
    except OSError as error:
        raise ImatrixError(f"{path}: cannot be read: {error.strerror or error}") from None
    return _read_gguf(path, read_header(path))


def _read_gguf(path: Path, header: Header) -> Imatrix:
    sums = _by_suffix(header.tensors, ".in_sum2")
    counts = _by_suffix(header.tensors, ".counts")
    if not sums or "imatrix.chunk_count" not in header.metadata:
        raise ImatrixError(f"{path}: a GGUF file, but not an importance matrix")
    if lone := sums.keys() ^ counts.keys():
        raise ImatrixError(
            f"{path}: {min(lone)!r} lacks its sums or its counts; the file is damaged"
        )
    values: dict[str, F32] = {}
    unreached: dict[str, tuple[int, ...]] = {}
    for name in sums:
        count = np.rint(_floats(path, counts[name]))
        if not np.isfinite(count).all():
            raise ImatrixError(
                f"{path}: {name!r} has infinite or NaN counts; run llama-imatrix again"
            )
        total = _floats(path, sums[name])
        if total.size % count.size:
            raise ImatrixError(
                f"{path}: {name!r} has {count.size} counts for {total.size} sums; "
                "the file is damaged"
            )
        per_expert = total.reshape(count.size, -1)
        reached = count > 0
        ones = np.ones_like(per_expert)
        with np.errstate(all="ignore"):  # invalid results are rejected below
            np.divide(per_expert, count[:, None], out=ones, where=reached[:, None])
        values[name] = _checked(path, name, ones.reshape(-1))
        if not reached.all():
            unreached[name] = tuple(np.flatnonzero(~reached).tolist())
    datasets = header.metadata.get("imatrix.datasets")
    named = datasets is not None and datasets.item_type is GGUFValueType.STRING and datasets.data
    first = datasets.data[0] if named and datasets is not None else None
    return Imatrix(
        path=path,
        values=values,
        unreached=unreached,
        chunks=header.integer("imatrix.chunk_count"),
        dataset=first.encode() if isinstance(first, str) else first,
    )


def _by_suffix(tensors: Iterable[TensorInfo], suffix: str) -> dict[str, TensorInfo]:
    return {t.name.removesuffix(suffix): t for t in tensors if t.name.endswith(suffix)}


def _floats(path: Path, tensor: TensorInfo) -> F32:
    if tensor.type is not GGMLQuantizationType.F32:
        raise ImatrixError(f"{path}: {tensor.name!r} is {tensor.type.name}, not F32")
    return np.fromfile(path, "<f4", prod(tensor.shape), offset=tensor.offset).astype(np.float32)


def _read_legacy(path: Path, file: BinaryIO) -> Imatrix:
    size = path.stat().st_size

    def integer(what: str, most: int) -> int:
        raw = file.read(4)
        number = struct.unpack("<i", raw)[0] if len(raw) == 4 else -1
        if not 0 <= number <= most:
            raise ImatrixError(
                f"{path}: not an importance matrix, or damaged: {what} is "
                f"{number if len(raw) == 4 else 'missing'}"
            )
        return int(number)

    def raw(count: int, what: str) -> bytes:
        data = file.read(count)
        if len(data) < count:
            raise ImatrixError(f"{path}: ends inside {what}; it is truncated, download it again")
        return data

    values: dict[str, F32] = {}
    entries = integer("the number of entries", min(_MAX_ENTRIES, size // 16))
    for number in range(1, entries + 1):
        which = f"entry {number}"
        name = raw(integer(f"the name's length of {which}", _MAX_NAME_BYTES), which).decode(
            errors="backslashreplace"
        )
        calls = integer(f"the number of calls of {name!r}", (1 << 31) - 1)
        count = integer(f"the number of values of {name!r}", size // 4)
        entry = np.frombuffer(raw(4 * count, repr(name)), "<f4").astype(np.float32)
        with np.errstate(all="ignore"):  # invalid results are rejected below
            mean = entry / np.float32(calls) if calls else entry
        values[name] = _checked(path, name, mean)
    if not values:
        raise ImatrixError(f"{path}: the importance matrix has no entries; run llama-imatrix again")
    chunks, dataset = 0, None
    if tail := file.read(8):
        chunks = struct.unpack("<i", tail[:4])[0] if len(tail) >= 4 else 0
        length = struct.unpack("<i", tail[4:8])[0] if len(tail) == 8 else 0
        dataset = raw(length, "the dataset's name") if 0 < length <= size else None
    return Imatrix(path, values, {}, chunks, dataset)


def _checked(path: Path, name: str, values: F32) -> F32:
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ImatrixError(
            f"{path}: {name!r} has negative, infinite or NaN values; run llama-imatrix again"
        )
    return values


def _text(raw: bytes) -> Value:
    cut = raw[:_MAX_TEXT_BYTES]
    try:
        return Value(GGUFValueType.STRING, cut.decode())
    except UnicodeDecodeError:
        return Value(GGUFValueType.STRING, cut)
