"""The whole pipeline: a source is read once, every output is quantized and written in that pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES

from .errors import CheckpointError, RecipeError
from .formats import F32, FORMATS, U8
from .mapping import Piece
from .output import Output, PlannedTensor
from .source import Source, SourceTensor
from .writer import PartialFiles, check_outputs

# Weights that one job reads, quantizes and writes: 4 MiB of float32, so that a thread's working
# set stays near the caches and Python's overhead far below the arithmetic.
_JOB_WEIGHTS = 1 << 20

# Only weights beyond F16's range can overflow a block's scale.
_F16_MAX = 65504.0


@dataclass(frozen=True)
class Job:
    """Rows of one piece of one tensor, and where they stand in the tensor."""

    index: int
    """Of the tensor, in the source and in every output."""
    matrix: int
    """Of the piece within the tensor: the number of the expert, or 0."""
    piece: Piece
    start: int
    stop: int
    row: int

    def weights(self, tensor: SourceTensor) -> int:
        """How many weights the job carries."""
        return (self.stop - self.start) * tensor.cols


@dataclass(frozen=True)
class Progress:
    """What a finished job adds to the whole."""

    tensor: str
    weights: int
    bytes_read: int
    bytes_written: int


def convert(
    source: Source,
    outputs: Sequence[Output],
    *,
    threads: int = 1,
    overwrite: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    check: Callable[[Path], None] = lambda part: None,
) -> None:
    """Write every output from one pass over `source`.

    `report` is called as jobs finish, `check` with each complete file before it gets its final
    name; what it raises stops the conversion. On any error, or Ctrl-C, no output is replaced and
    nothing half-written stays. Raises a FrankenError.
    """
    check_outputs(outputs, source.files, overwrite)
    with PartialFiles(outputs) as files:
        work = partial(_convert_rows, source, outputs, files)
        for progress in _in_threads(work, jobs(source.tensors), threads):
            report(progress)
        for output in outputs:
            check(files.part(output))
        files.commit()


def jobs(tensors: Sequence[SourceTensor]) -> Iterator[Job]:
    """Cut the tensors into runs of rows: within a matrix, and by whole heads where they rotate."""
    for index, tensor in enumerate(tensors):
        row = 0
        for matrix, piece in enumerate(tensor.pieces):
            rows = piece.stop - piece.start
            unit = max(rows // tensor.rotary_heads, 1) if tensor.rotary_heads else 1
            step = max(_JOB_WEIGHTS // (tensor.cols * unit), 1) * unit
            for start in range(piece.start, piece.stop, step):
                stop = min(start + step, piece.stop)
                yield Job(index, matrix, piece, start, stop, row)
                row += stop - start


def _convert_rows(
    source: Source, outputs: Sequence[Output], files: PartialFiles, job: Job
) -> Progress:
    tensor = source.tensors[job.index]
    stored = source.read(tensor, job.piece, job.start, job.stop)
    targets = [output.tensors[job.index] for output in outputs]
    rows, largest = _dequantized(stored, tensor, job, targets)
    written = 0
    for output, target in zip(outputs, targets, strict=True):
        same = target.choice.type is tensor.stored
        blocks = stored if same else _quantized(rows, largest, target, job)
        files.write(output, target.offset + job.row * target.row_bytes, blocks)
        written += blocks.nbytes
    return Progress(tensor.name, job.weights(tensor), stored.nbytes, written)


def _dequantized(
    stored: U8, tensor: SourceTensor, job: Job, targets: Sequence[PlannedTensor]
) -> tuple[F32, float]:
    """The rows as float32, checked to be finite, and their largest magnitude.

    Blocks that every output copies as they are stay unread: an empty array and 0.
    """
    copied = all(target.choice.type is tensor.stored for target in targets)
    if copied and GGML_QUANT_SIZES[tensor.stored][0] > 1:
        return np.empty((0, 0), np.float32), 0.0
    rows = FORMATS[tensor.stored.name].dequantize(stored)
    with np.errstate(invalid="ignore"):
        largest = max(float(rows.max()), -float(rows.min()))
    if not np.isfinite(largest):
        row = job.start + int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise CheckpointError(
            f"tensor {job.piece.source!r} holds NaN or Inf in row {row}; the checkpoint is broken, "
            "merge or download it again"
        )
    return rows, largest


def _quantized(rows: F32, largest: float, target: PlannedTensor, job: Job) -> U8:
    codec = FORMATS[target.choice.type.name]
    importance = None if target.importance is None else target.importance[job.matrix]
    blocks = codec.quantize(rows, importance)
    if largest > _F16_MAX:
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(codec.dequantize(blocks)).all()
        if not finite:
            raise RecipeError(
                f"tensor {target.source.name!r} holds weights as large as {largest:.3g}, beyond "
                f"{codec.name}'s range; convert to F32 or BF16"
            )
    return blocks


def _in_threads(
    work: Callable[[Job], Progress], items: Iterator[Job], threads: int
) -> Iterator[Progress]:
    """Results as they come; at most two jobs a thread wait, and none starts after an error."""
    with ThreadPoolExecutor(threads) as pool:
        pending: set[Future[Progress]] = set()
        try:
            for item in items:
                pending.add(pool.submit(work, item))
                if len(pending) >= 2 * threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in pending)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def total_weights(source: Source) -> int:
    """Weights that a conversion has to read."""
    return sum(prod(tensor.shape) for tensor in source.tensors)
