"""Figures of a running conversion: bytes written of each output, speed, time left."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod
from typing import NamedTuple

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.output.jobs import Job
from franken_gguf.quantize.output.output import Output
from franken_gguf.quantize.output.row_converter import Progress, Seconds

from .time_left import TimeLeft

# Speeds are averages over this many seconds.
_WINDOW = 20.0


class Speed(NamedTuple):
    """Per second."""

    weights: float = 0.0
    bytes_read: float = 0.0
    bytes_written: float = 0.0


class _Sample(NamedTuple):
    when: float
    weights: int
    bytes_read: int
    bytes_written: int


class ProgressStats:
    """Counts finished jobs, which must come in order. An earlier run's work counts as done."""

    def __init__(
        self,
        source: Source,
        outputs: Sequence[Output],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.outputs = outputs
        self.tensors = len(source.tensors)
        self.stage = ""
        """What is being done, if not converting."""
        self.tensor = ""
        self.tensor_number = 0
        self.weights = 0
        self.written = [0] * len(outputs)
        """Bytes written of each output, its header included."""
        self.seconds = Seconds()
        """Time of all workers together, by step."""
        self._before = [0, *accumulate(prod(tensor.shape) for tensor in source.tensors)]
        self._clock = clock
        self._time_left = TimeLeft(source, outputs)
        self._samples = deque([_Sample(clock(), 0, 0, 0)])

    @property
    def total(self) -> int:
        """The number of weights in the source."""
        return self._before[-1]

    def add(self, progress: Progress) -> None:
        """Count a finished job."""
        index, row = progress.job.end
        self.tensor, self.tensor_number = progress.tensor, index + 1
        self.weights = self._before[index] + row * (progress.weights // progress.job.rows)
        for number, output in enumerate(self.outputs):
            tensor = output.tensors[index]
            earlier = sum(shard.nbytes for shard in output.shards[: tensor.shard])
            self.written[number] = earlier + tensor.offset + row * tensor.row_bytes
        pairs = zip(self.seconds, progress.seconds, strict=True)
        self.seconds = Seconds(*(before + more for before, more in pairs))
        now = self._clock()
        done = self.weights - self._before[index]
        self._time_left.add(index, done, progress.weights, sum(progress.seconds), now)
        last = self._samples[-1]
        self._samples.append(
            _Sample(
                now,
                last.weights + progress.weights,
                last.bytes_read + progress.bytes_read,
                last.bytes_written + sum(progress.bytes_written),
            )
        )
        oldest = bisect_left(self._samples, (self._samples[-1].when - _WINDOW,))
        for _ in range(min(oldest, len(self._samples) - 2)):
            self._samples.popleft()

    def compare(self, output: Output, job: Job) -> None:
        """Record that rows of a finished output were compared with the source."""
        self.stage = f"comparing {output.preset.name} with the source: "
        self.tensor = output.tensors[job.index].source.name
        self.tensor_number = job.index + 1

    @property
    def speed(self) -> Speed:
        """The average of the last 20 seconds; zeros before the first job is done."""
        first, last = self._samples[0], self._samples[-1]
        elapsed = last.when - first.when
        if elapsed <= 0:
            return Speed()
        return Speed(*((b - a) / elapsed for a, b in zip(first[1:], last[1:], strict=True)))

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end; None before the first job is done."""
        return self._time_left.seconds
