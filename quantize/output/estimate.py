"""Estimates a conversion's disk space, memory and time, from headers and a short benchmark."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np

from franken_gguf.quantize.blocks.code_refinement import refined
from franken_gguf.quantize.blocks.formats import F32, FORMATS, NUMPY, U8, BlockFormat, Kernels, Step
from franken_gguf.quantize.blocks.moments import prepared
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.blas import one_blas_thread

from .output import Output, refines
from .worker_memory import share_memory

# Total seconds of the benchmark.
_SAMPLE_SECONDS = 2.0
_SAMPLE_SHAPE = 128, 2048


@dataclass(frozen=True)
class Estimate:
    """The cost of one conversion, all outputs together."""

    disk_bytes: int
    memory_bytes: int
    """The working set of all workers, without their Python interpreters."""
    workers: int
    seconds: float
    """Wall time, if every worker has its own core and the disk is not the bottleneck."""


def estimate(
    source: Source,
    outputs: Sequence[Output],
    threads: int,
    max_memory: int,
    kernels: Kernels = NUMPY,
) -> Estimate:
    """Time each type's conversion on normally distributed weights, and add up the tensors.

    Takes two or three seconds. Raises OutputError if `max_memory` is too small.
    """
    share = share_memory(source.tensors, threads, max_memory, refining=any(map(refines, outputs)))
    widened, quantized = _widened_weights(source, outputs), quantized_weights(source, outputs)
    budget = _SAMPLE_SECONDS / max(len(widened) + len(quantized), 1)
    total = sum(
        weights * _seconds_per_weight(partial(_widen, *_blocks(name)), budget)
        for name, weights in widened.items()
    ) + sum(
        weights * _seconds_per_weight(_quantization(step, kernels), budget)
        for step, weights in quantized.items()
    )
    total += sum(
        weights * _seconds_per_weight(_refinement(name), 0.0)
        for name, weights in _refined_weights(source, outputs).items()
    )
    disk = sum(output.nbytes for output in outputs)
    return Estimate(disk, share.nbytes, share.workers, total / share.workers)


def quantized_weights(source: Source, outputs: Sequence[Output]) -> Counter[Step]:
    """The number of weights that each step quantizes. Outputs with the same type share blocks."""
    steps: Counter[Step] = Counter()
    for index, tensor in enumerate(source.tensors):
        planned = [output.tensors[index] for output in outputs]
        for step in {
            Step(target.choice.type.name, target.importance is not None)
            for target in planned
            if target.choice.type is not tensor.stored
        }:
            steps[step] += tensor.rows * tensor.cols
    return steps


def block_weights(source: Source, outputs: Sequence[Output]) -> dict[Step, int]:
    """`quantized_weights` of the types that have blocks."""
    weights = quantized_weights(source, outputs)
    return {step: count for step, count in weights.items() if FORMATS[step.format].block_len > 1}


def _widened_weights(source: Source, outputs: Sequence[Output]) -> Counter[str]:
    """The number of weights of each type in the source that become float32."""
    weights: Counter[str] = Counter()
    for index, tensor in enumerate(source.tensors):
        if any(output.tensors[index].choice.type is not tensor.stored for output in outputs):
            weights[tensor.stored.name] += tensor.rows * tensor.cols
    return weights


def _refined_weights(source: Source, outputs: Sequence[Output]) -> Counter[str]:
    """The number of weights of each type whose codes are chosen under second moments."""
    weights: Counter[str] = Counter()
    for index, tensor in enumerate(source.tensors):
        planned = [output.tensors[index] for output in outputs]
        for name in {target.choice.type.name for target in planned if target.moments}:
            weights[name] += tensor.rows * tensor.cols
    return weights


def _quantization(step: Step, kernels: Kernels) -> Callable[[], object]:
    rows, importance = _sample()
    quantize = kernels.get(step, FORMATS[step.format].quantize)
    return partial(quantize, rows, importance if step.weighted else None)


def _refinement(name: str) -> Callable[[], object]:
    """Choosing codes of the sample, in groups of 256 columns; the inverses are made beforehand."""
    rows, _ = _sample()
    _, blocks = _blocks(name)
    moments = prepared([np.eye(256, dtype=np.float32)] * (rows.shape[1] // 256))

    def run() -> None:
        with one_blas_thread():
            refined(name, rows, blocks, moments)

    return run


def _blocks(name: str) -> tuple[BlockFormat, U8]:
    rows, importance = _sample()
    codec = FORMATS[name]
    return codec, codec.quantize(rows, importance if codec.needs_importance else None)


def _widen(codec: BlockFormat, blocks: U8) -> None:
    rows = codec.dequantize(blocks)
    rows.max(), rows.min()


def _sample() -> tuple[F32, F32]:
    """Rows, and importances of their columns."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(_SAMPLE_SHAPE, np.float32)
    return rows, rng.random(_SAMPLE_SHAPE[1], np.float32)


def _seconds_per_weight(work: Callable[[], object], budget: float) -> float:
    """The median time of runs on the sample that take about `budget` seconds together."""
    times: list[float] = []
    until = time.perf_counter() + budget
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) / prod(_SAMPLE_SHAPE)
