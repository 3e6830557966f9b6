"""A finished GGUF read back and compared with its source: completeness, and each type's error.

The error of a tensor is judged by what its type costs on normally distributed weights, which those
of trained models nearly are: a ratio near 1 is a sound tensor, random bytes give 10 and more.
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

# How many times its type's usual error a tensor may have. Heavy tails, and importances that differ
# much between columns, cost up to about twice the usual.
_MOST = 3.0


@dataclass(frozen=True)
class TensorCheck:
    """The round-trip error of one tensor; errors are relative to its root mean square."""

    name: str
    type: GGMLQuantizationType
    rmse: float
    largest: float
    expected_rmse: float
    """What the type costs on normally distributed weights; 0 for F32."""
    expected_largest: float

    @property
    def ratio(self) -> float:
        """rmse over what is expected; 1 where both are 0."""
        return _over(self.rmse, self.expected_rmse)

    @property
    def largest_ratio(self) -> float:
        """largest over what is expected; 1 where both are 0."""
        return _over(self.largest, self.expected_largest)

    @property
    def is_sound(self) -> bool:
        """Whether the error is of the size that the type explains."""
        return self.ratio <= _MOST


def _over(error: float, expected: float) -> float:
    if error == 0:
        return 1.0 if expected == 0 else 0.0
    return error / expected if expected else float("inf")


class Difference(NamedTuple):
    """Sums over some rows: of squares of the source's weights, of squared errors; largest error."""

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

    Raises GGUFError for files that are damaged, VerifyError where tensors are missing, more than
    they should be, or of another shape. Errors of any size are returned, not raised.
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
    """Raise VerifyError where a tensor's error is beyond what its type explains."""
    worst = max(checks, key=lambda check: check.ratio)
    if not worst.is_sound:
        raise VerifyError(
            f"{path}: tensor {worst.name!r} is {worst.ratio:.3g} times as far from the source "
            f"as {worst.type.name} explains; the file is damaged, or made from another source"
        )


def _matched(source: Source, files: Sequence[Path]) -> dict[str, tuple[Path, TensorInfo]]:
    found = {info.name: (file, info) for file in files for info in read_header(file).tensors}
    for tensor in source.tensors:
        if tensor.name not in found:
            raise VerifyError(f"{files[0]}: tensor {tensor.name!r} of the source is not in it")
        file, info = found[tensor.name]
        if info.shape != tensor.shape:
            raise VerifyError(
                f"{file}: tensor {tensor.name!r} is {list(info.shape)}, in the source "
                f"{list(tensor.shape)}; it was made from another one"
            )
        if info.type.name not in FORMATS:
            raise VerifyError(f"{file}: tensor {tensor.name!r}: {info.type.name} is not supported")
    extra = found.keys() - {tensor.name for tensor in source.tensors}
    if extra:
        raise VerifyError(f"{found[min(extra)][0]}: tensor {min(extra)!r} is not in the source")
    return found


class _RowComparer:
    """Compares the rows of a job, in any process that it is sent to."""

    def __init__(self, source: Source, tensors: dict[str, tuple[Path, TensorInfo]]) -> None:
        self._source = source
        self._tensors = tensors

    def __call__(self, job: Job) -> tuple[Job, Difference]:
        tensor = self._source.tensors[job.index]
        stored = self._source.read(tensor, job.piece, job.start, job.stop)
        wanted = FORMATS[tensor.stored.name].dequantize(stored)
        file, info = self._tensors[tensor.name]
        block_len, block_bytes = GGML_QUANT_SIZES[info.type]
        row_bytes = tensor.cols // block_len * block_bytes
        offset = info.offset + job.row * row_bytes
        raw = read_at(file, offset, job.rows * row_bytes, tensor.name)
        got = FORMATS[info.type.name].dequantize(raw.reshape(job.rows, row_bytes))
        return job, _difference(wanted, got)


def _difference(wanted: F32, got: F32) -> Difference:
    error = wanted - got
    largest = float(np.abs(error).max())
    return Difference(
        float(np.vdot(wanted, wanted)),
        # NaN is as far away as can be.
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
    """(root mean square, largest) error of a format on 262,144 normal weights of RMS 1."""
    rows = np.random.default_rng(0).standard_normal((256, 1024), np.float32)
    codec = FORMATS[name]
    error = rows - codec.dequantize(codec.quantize(rows, None))
    return float(np.sqrt(np.mean(np.square(error)))), float(np.abs(error).max())
