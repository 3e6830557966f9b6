"""Writes importance matrices, in both file formats; imatrix.py has their layout and reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import replacing
from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.values import Metadata, array, string, u32


@dataclass(frozen=True)
class WeightSums:
    """What was added up of one weight's inputs."""

    sums: NDArray[np.float64]
    """Squared inputs by matrix and column: float64 [matrices, cols]."""
    counts: NDArray[np.int64]
    """Rows that were added up: int64 [matrices] of experts; else [1], the rows of each matrix."""

    @classmethod
    def zeros(cls, matrices: int, cols: int, counts: int) -> WeightSums:
        """No rows yet."""
        return cls(np.zeros((matrices, cols)), np.zeros(counts, np.int64))

    def __add__(self, other: WeightSums) -> WeightSums:
        return WeightSums(self.sums + other.sums, self.counts + other.counts)


@dataclass(frozen=True)
class ImatrixSums:
    """The contents of an importance matrix's file."""

    weights: Mapping[str, WeightSums]
    """By the weight's name."""
    chunks: int
    """Chunks of text that were evaluated."""
    chunk_size: int
    """Tokens in a chunk."""
    datasets: tuple[str, ...]
    """The names of the texts."""

    def with_prior(self, tokens: int) -> ImatrixSums:
        """Each expert gets `tokens` more, of its tensor's mean over all experts.

            sums[e]   += tokens * sum(sums over experts) / sum(counts over experts)
            counts[e] += tokens

        An expert that no token reached then has the mean; one with many tokens hardly changes.
        """
        weights = dict(self.weights)
        for name, weight in weights.items():
            if len(weight.counts) > 1 and weight.counts.any():
                mean = weight.sums.sum(axis=0) / weight.counts.sum()
                weights[name] = WeightSums(weight.sums + tokens * mean, weight.counts + tokens)
        return ImatrixSums(weights, self.chunks, self.chunk_size, self.datasets)


def write_imatrix(path: Path, content: ImatrixSums, *, legacy: bool = False) -> None:
    """Write a GGUF file, or a `legacy` .dat, that replaces `path` once it is complete.

    Raises OutputError if it cannot be written.
    """
    with _replacing(path) as file:
        if legacy:
            _write_legacy(file, content)
        else:
            _write_gguf(file, content)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    try:
        with replacing(path, fsync=True) as part, part.open("wb") as file:
            yield file
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def _write_gguf(file: BinaryIO, content: ImatrixSums) -> None:
    metadata: Metadata = {
        "general.type": string("imatrix"),
        "imatrix.datasets": array(GGUFValueType.STRING, list(content.datasets)),
        "imatrix.chunk_count": u32(content.chunks),
        "imatrix.chunk_size": u32(content.chunk_size),
    }
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, weight in _sorted(content):
        counts = weight.counts.astype(np.float32)
        arrays[f"{name}.in_sum2"] = weight.sums.astype(np.float32).reshape(len(counts), -1)
        arrays[f"{name}.counts"] = counts.reshape(-1, 1)
    table, offset = [], 0
    for name, data in arrays.items():
        # ggml leaves out dimensions of 1 at the end.
        shape = data.shape if len(data) > 1 else data.shape[1:]
        table.append((name, shape, GGMLQuantizationType.F32, offset))
        offset += padded(data.nbytes)
    file.write(encode_header(metadata, table))
    for data in arrays.values():
        file.write(data.astype("<f4").tobytes().ljust(padded(data.nbytes), b"\0"))


def _write_legacy(file: BinaryIO, content: ImatrixSums) -> None:
    reached = [(name, weight) for name, weight in _sorted(content) if weight.counts.any()]
    file.write(struct.pack("<i", len(reached)))
    for name, weight in reached:
        counts = weight.counts[:, None].astype(np.float32)
        sums = weight.sums.astype(np.float32).reshape(len(counts), -1)
        calls = -(-int(weight.counts.max()) // content.chunk_size)
        values = np.where(counts > 0, sums / np.maximum(counts, 1), 1) * np.float32(calls)
        raw = name.encode()
        file.write(struct.pack("<i", len(raw)) + raw)
        file.write(struct.pack("<ii", calls, values.size) + values.astype("<f4").tobytes())
    dataset = content.datasets[-1].encode() if content.datasets else b""
    file.write(struct.pack("<ii", content.chunks, len(dataset)) + dataset)


def _sorted(content: ImatrixSums) -> list[tuple[str, WeightSums]]:
    return sorted(content.weights.items(), key=lambda item: item[0].encode())
