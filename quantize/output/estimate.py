"""What a conversion will take of disk, memory and time: headers, and a sample of this machine."""

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

# Seconds that all samples may take together.
_SAMPLE_SECONDS = 2.0
_SAMPLE_SHAPE = 128, 2048


@dataclass(frozen=True)
class Estimate:
    """Of one conversion, all outputs together."""

    disk_bytes: int
    memory_bytes: int
    """The working set of the workers, beyond their interpreters."""
    workers: int
    seconds: float
    """With every worker on a core of its own, and a disk that keeps up."""


def estimate(source: Source, outputs: Sequence[Output], threads: int, max_memory: int) -> Estimate:
    """Time what each type needs for normally distributed weights, and add it up.

    Takes about two seconds. Raises OutputError where `max_memory` is too small.
    """
    share = share_memory(source.tensors, threads, max_memory)
    steps = _steps(source, outputs)
    each = _SAMPLE_SECONDS / max(len(steps), 1)
    total = sum(weights * _seconds_per_weight(step, each) for step, weights in steps.items())
    disk = sum(output.nbytes for output in outputs)
    return Estimate(disk, share.nbytes, share.workers, total / share.workers)


class _Step(NamedTuple):
    """Something that is done with every weight of some tensors."""

    format: str
    quantize: bool
    """From float32 into the format; otherwise out of it, and a look at the extremes."""
    weighted: bool = False
    """Under an importance matrix."""


def _steps(source: Source, outputs: Sequence[Output]) -> Counter[_Step]:
    """How many weights each step is done with. Outputs that agree on a type share its blocks."""
    steps: Counter[_Step] = Counter()
    for index, tensor in enumerate(source.tensors):
        weights = tensor.rows * tensor.cols
        planned = [output.tensors[index] for output in outputs]
        wanted = {
            _Step(target.choice.type.name, True, target.importance is not None)
            for target in planned
            if target.choice.type is not tensor.stored
        }
        if wanted:
            steps[_Step(tensor.stored.name, False)] += weights
        for step in wanted:
            steps[step] += weights
    return steps


def _seconds_per_weight(step: _Step, budget: float) -> float:
    """The median of as many tries as take about `budget` seconds."""
    codec = FORMATS[step.format]
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(_SAMPLE_SHAPE, np.float32)
    importance = rng.random(_SAMPLE_SHAPE[1], np.float32) if step.weighted else None
    blocks = None if step.quantize else codec.quantize(rows, None)
    times: list[float] = []
    until = time.perf_counter() + budget
    while not times or time.perf_counter() < until:
        started = time.perf_counter()
        if blocks is None:
            codec.quantize(rows, importance)
        else:
            widened = codec.dequantize(blocks)
            widened.max(), widened.min()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) / rows.size
