"""Runs one job of a conversion: reads rows, converts them to float32, quantizes and writes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8, BlockFormat, Kernels, Step
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import CheckpointError, OutputError, RecipeError
from franken_gguf.quantize.common.files import write_at

from .jobs import Job, Position
from .output import Output, PlannedTensor
from .output_names import part_of
from .refinement import Refiner

# Only weights beyond F16's range can overflow the scale of a block.
_F16_MAX = 65504.0
# With F16_MAX² and 256 weights in a sum this is far below float32's range.
_HEAVIEST = 1e20


class Seconds(NamedTuple):
    """Wall time of a job, by step."""

    read: float = 0.0
    widen: float = 0.0
    quantize: float = 0.0
    write: float = 0.0


@dataclass(frozen=True)
class Progress:
    """What a finished job has done."""

    job: Job
    tensor: str
    weights: int
    bytes_read: int
    bytes_written: tuple[int, ...]
    """For each output."""
    seconds: Seconds


class RowConverter:
    """Runs jobs; can be pickled and sent to a worker process.

    `positions` has each output's progress: rows before it are not written again.
    """

    def __init__(
        self,
        source: Source,
        outputs: Sequence[Output],
        positions: Sequence[Position],
        kernels: Kernels,
    ) -> None:
        self._source = source
        self._outputs = outputs
        self._positions = positions
        self._kernels = kernels
        self._refined = Refiner()

    def __call__(self, job: Job) -> Progress:
        """Run the job. Raises a FrankenError."""
        clock = [time.perf_counter()]
        tensor = self._source.tensors[job.index]
        targets = {
            number: output.tensors[job.index]
            for number, output in enumerate(self._outputs)
            if self._positions[number] < job.end
        }
        stored = self._source.read(tensor, job.piece, job.start, job.stop)
        clock.append(time.perf_counter())
        rows, largest = _widened(self._source.name, stored, tensor, job, list(targets.values()))
        clock.append(time.perf_counter())
        # Outputs often share a tensor's type: Q4_K_M, Q5_K_M and Q6_K files all have Q6_K tensors.
        blocks: dict[GGMLQuantizationType, U8] = {tensor.stored: stored}
        for target in targets.values():
            if target.choice.type not in blocks:
                blocks[target.choice.type] = self._quantized(rows, largest, target, job)
        clock.append(time.perf_counter())
        written = [0] * len(self._outputs)
        for number, target in targets.items():
            self._write(self._outputs[number], target, job, blocks[target.choice.type])
            written[number] = blocks[target.choice.type].nbytes
        clock.append(time.perf_counter())
        seconds = Seconds(*np.diff(clock).tolist())
        weights = job.rows * tensor.cols
        return Progress(job, tensor.name, weights, stored.nbytes, tuple(written), seconds)

    def _quantized(self, rows: F32, largest: float, target: PlannedTensor, job: Job) -> U8:
        block_format = FORMATS[target.choice.type.name]
        importance = None if target.importance is None else target.importance[job.matrix]
        quantize = block_format.quantize
        if _is_ordinary(largest, importance):
            step = Step(block_format.name, importance is not None)
            quantize = self._kernels.get(step, quantize)
        blocks = quantize(rows, importance)
        if largest > _F16_MAX:
            _check_finite(block_format, blocks, target.source.name, largest)
        elif target.moments:
            blocks = self._refined(block_format.name, rows, blocks, target.moments, job.matrix)
        return blocks

    def _write(self, output: Output, target: PlannedTensor, job: Job, blocks: U8) -> None:
        path = output.shards[target.shard].path
        try:
            write_at(part_of(path), target.offset + job.row * target.row_bytes, blocks)
        except OSError as error:
            raise OutputError(
                f"{path}: {error.strerror}; nothing was replaced; fix it and rerun "
                "the same command to resume"
            ) from None


def _widened(
    name: str, stored: U8, tensor: SourceTensor, job: Job, targets: Sequence[PlannedTensor]
) -> tuple[F32, float]:
    """The rows as float32 [rows, cols], and their largest magnitude.

    Returns an empty array and 0 for quantized blocks that every output copies unchanged. Raises
    CheckpointError, with the source's `name`, if a weight is not finite.
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
            f"{name}: tensor {job.piece.source!r} holds NaN or Inf in row {row}; the checkpoint is "
            "broken, merge or download it again"
        )
    return rows, largest


def _check_finite(block_format: BlockFormat, blocks: U8, name: str, largest: float) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(block_format.dequantize(blocks)).all()
    if not finite:
        raise RecipeError(
            f"tensor {name!r} holds weights as large as {largest:.3g}, beyond "
            f"{block_format.name}'s range; convert to F32 or BF16"
        )


def _is_ordinary(largest: float, importance: F32 | None) -> bool:
    """Whether no sum of weighted squares can overflow: ggml's searches abort where one does."""
    heaviest = 1.0 if importance is None else float(importance.max(initial=0.0))
    return largest <= _F16_MAX and heaviest <= _HEAVIEST
