"""Reads a finished GGUF back and compares it with its source: every tensor, and its error.

A tensor's error is divided by the error of its type on normally distributed weights, since weights
of trained models are nearly normal: a sound tensor has a ratio near 1, random bytes 10 or more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import F32, FORMATS
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import VerifyError
from franken_gguf.quantize.common.files import read_at
from franken_gguf.quantize.common.workers import in_order
from franken_gguf.quantize.gguf_file.header import TensorInfo, read_header

from .jobs import Job, jobs
from .worker_memory import Share

# The largest acceptable ratio. Heavy tails, and importances that differ a lot between columns, give
# up to about 2.
_MOST = 3.0


@dataclass(frozen=True)
class TensorCheck:
    """The quantization error of one tensor, relative to the root mean square of its weights."""

    name: str
    type: GGMLQuantizationType
    rmse: float
    largest: float
    expected_rmse: float
    """The error of the type on normally distributed weights; 0 for F32."""
    expected_largest: float

    @property
    def ratio(self) -> float:
        """rmse / expected_rmse; 1 if both are 0."""
        return _ratio(self.rmse, self.expected_rmse)

    @property
    def largest_ratio(self) -> float:
        """largest / expected_largest; 1 if both are 0."""
        return _ratio(self.largest, self.expected_largest)

    @property
    def is_sound(self) -> bool:
        """Whether the type explains the error."""
        return self.ratio <= _MOST


def _ratio(error: float, expected: float) -> float:
    if error == 0:
        return 1.0 if expected == 0 else 0.0
    return error / expected if expected else float("inf")


class Difference(NamedTuple):
    """Over some rows: sum of squared source weights, sum of squared errors, largest error."""

    squares: float
    squared_error: float
    largest: float


def verify(
    source: Source,
    files: Sequence[Path],
    share: Share,
    report: Callable[[Job], None] = lambda job: None,
) -> list[TensorCheck]:
    """Compare every tensor in `files`, the shards of one model, with `source`.

    Raises GGUFError for a damaged file, VerifyError for a tensor that is missing, unexpected or of
    another shape. Errors of any size are returned, not raised.
    """
    tensors = _matched(source, files)
    sums = [Difference(0, 0, 0)] * len(source.tensors)
    items = jobs(source.tensors, share.job_weights)
    for job, rows in in_order(_RowComparer(source, tensors), items, share.workers):
        before = sums[job.index]
        sums[job.index] = Difference(
            before.squares + rows.squares,
            before.squared_error + rows.squared_error,
            max(before.largest, rows.largest),
        )
        report(job)
    return [
        _check(tensor.name, tensors[tensor.name][1].type, tensor.rows * tensor.cols, total)
        for tensor, total in zip(source.tensors, sums, strict=True)
    ]


def refuse_unsound(path: Path, checks: Sequence[TensorCheck]) -> None:
    """Raise VerifyError if a tensor's error is larger than its type explains."""
    worst = max(checks, key=lambda check: check.ratio)
    if not worst.is_sound:
        raise VerifyError(
            f"{path}: tensor {worst.name!r} has {worst.ratio:.3g} times the error that "
            f"{worst.type.name} explains; the file is damaged, or was made from another source"
        )


def _matched(source: Source, files: Sequence[Path]) -> dict[str, tuple[Path, TensorInfo]]:
    found = {info.name: (file, info) for file in files for info in read_header(file).tensors}
    for tensor in source.tensors:
        if tensor.name not in found:
            raise VerifyError(
                f"{files[0]}: lacks the source's tensor {tensor.name!r}; convert it again"
            )
        file, info = found[tensor.name]
        if info.shape != tensor.shape:
            raise VerifyError(
                f"{file}: tensor {tensor.name!r} is {list(info.shape)}, but "
                f"{list(tensor.shape)} in the source; the file was made from another source"
            )
        if info.type.name not in FORMATS:
            raise VerifyError(f"{file}: tensor {tensor.name!r}: {info.type.name} is not supported")
    extra = found.keys() - {tensor.name for tensor in source.tensors}
    if extra:
        raise VerifyError(
            f"{found[min(extra)][0]}: tensor {min(extra)!r} is not in the source; "
            "the file was made from another source"
        )
    return found


class _RowComparer:
    """Compares the rows of a job; can be pickled and sent to a worker process."""

    def __init__(self, source: Source, tensors: dict[str, tuple[Path, TensorInfo]]) -> None:
        self._source = source
        self._tensors = tensors

    def __call__(self, job: Job) -> tuple[Job, Difference]:
        tensor = self._source.tensors[job.index]
        stored = self._source.read(tensor, job.piece, job.start, job.stop)
        expected = FORMATS[tensor.stored.name].dequantize(stored)
        file, info = self._tensors[tensor.name]
        block_len, block_bytes = GGML_QUANT_SIZES[info.type]
        row_bytes = tensor.cols // block_len * block_bytes
        offset = info.offset + job.row * row_bytes
        raw = read_at(file, offset, job.rows * row_bytes, tensor.name)
        actual = FORMATS[info.type.name].dequantize(raw.reshape(job.rows, row_bytes))
        return job, _difference(expected, actual)


def _difference(expected: F32, actual: F32) -> Difference:
    error = expected - actual
    largest = float(np.abs(error).max())
    return Difference(
        float(np.vdot(expected, expected)),
        # NaN counts as an infinite error.
        float(np.vdot(error, error)) if np.isfinite(largest) else float("inf"),
        largest if np.isfinite(largest) else float("inf"),
    )


def _check(name: str, kind: GGMLQuantizationType, weights: int, total: Difference) -> TensorCheck:
    mean_square = total.squares / weights
    scale = mean_square**0.5 or 1.0
    rmse = (total.squared_error / weights) ** 0.5 / scale
    return TensorCheck(name, kind, rmse, total.largest / scale, *expected_error(kind.name))


@cache
def expected_error(name: str) -> tuple[float, float]:
    """(root mean square, largest) error of a format on 262,144 standard normal weights."""
    rows = np.random.default_rng(0).standard_normal((256, 1024), np.float32)
    block_format = FORMATS[name]
    even = np.ones(1024, np.float32) if block_format.needs_importance else None
    error = rows - block_format.dequantize(block_format.quantize(rows, even))
    return float(np.sqrt(np.mean(np.square(error)))), float(np.abs(error).max())
