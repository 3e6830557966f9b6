"""Estimates a conversion's disk space, memory and time, from headers and a short benchmark."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.checkpoint.source import Source

from .output import Output
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


def estimate(source: Source, outputs: Sequence[Output], threads: int, max_memory: int) -> Estimate:
    """Time each type's conversion on normally distributed weights, and add up the tensors.

    Takes about two seconds. Raises OutputError if `max_memory` is too small.
    """
    share = share_memory(source.tensors, threads, max_memory)
    steps = _steps(source, outputs)
    budget = _SAMPLE_SECONDS / max(len(steps), 1)
    total = sum(weights * _seconds_per_weight(step, budget) for step, weights in steps.items())
    disk = sum(output.nbytes for output in outputs)
    return Estimate(disk, share.nbytes, share.workers, total / share.workers)


class _Step(NamedTuple):
    """A conversion that is applied to every weight of some tensors."""

    format: str
    quantize: bool
    """From float32 to the format; else from the format to float32, with the minimum and maximum."""
    weighted: bool = False
    """With an importance matrix."""


def _steps(source: Source, outputs: Sequence[Output]) -> Counter[_Step]:
    """The number of weights of each step. Outputs with the same type share its blocks."""
    steps: Counter[_Step] = Counter()
    for index, tensor in enumerate(source.tensors):
        weights = tensor.rows * tensor.cols
        planned = [output.tensors[index] for output in outputs]
        needed = {
            _Step(target.choice.type.name, True, target.importance is not None)
            for target in planned
            if target.choice.type is not tensor.stored
        }
        if needed:
            steps[_Step(tensor.stored.name, False)] += weights
        for step in needed:
            steps[step] += weights
    return steps


def _seconds_per_weight(step: _Step, budget: float) -> float:
    """The median time of repeated runs that take about `budget` seconds together."""
    block_format = FORMATS[step.format]
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(_SAMPLE_SHAPE, np.float32)
    importance = rng.random(_SAMPLE_SHAPE[1], np.float32) if step.weighted else None
    even = np.ones(_SAMPLE_SHAPE[1], np.float32) if block_format.needs_importance else None
    blocks = None if step.quantize else block_format.quantize(rows, even)
    times: list[float] = []
    until = time.perf_counter() + budget
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        if blocks is None:
            block_format.quantize(rows, importance)
        else:
            widened = block_format.dequantize(blocks)
            widened.max(), widened.min()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) / rows.size
