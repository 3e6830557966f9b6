"""The scales of a plot's axes, and the round numbers of their ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from franken_gguf.runner.terminal.text import size

Scale = Callable[[float], float]


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """A scale that maps `low` to `start` and `high` to `end`."""
    width = (high - low) or 1.0
    return lambda value: start + (end - start) * (value - low) / width


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Like `linear`, on a logarithmic axis; values below `low` are drawn at `low`."""
    place = linear(math.log(low), math.log(high), start, end)
    return lambda value: place(math.log(max(value, low)))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers in a range, in steps of 1, 2 or 5 times a power of ten."""
    rough = max(high - low, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)][:most]


def size_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Like `ticks`, but round in the largest binary unit that fits."""
    unit = 1024.0 ** int(math.log(max(high, 1.0), 1024))
    return [tick * unit for tick in ticks(low / unit, high / unit, most)]


def round_size(nbytes: float) -> str:
    """Like `size`, without a fraction of 0."""
    return size(nbytes).replace(".0 ", " ")


def log_ticks(low: float, high: float) -> Iterator[float]:
    """Powers of ten in a range; also 2 and 5 times them if the range is below two decades."""
    steps = (1, 2, 5) if high < 100 * low else (1,)
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in steps:
            if low <= step * 10.0**power <= high:
                yield float(f"{step * 10.0**power:.6g}")


Extent = tuple[float, float, float]
"""The left and right end of something drawn, and its height."""


def apart(labels: Sequence[Extent], least: float, obstacles: Sequence[Extent] = ()) -> list[float]:
    """Heights for labels: each moves up until it is `least` from earlier labels and obstacles.

    Only those that overlap it horizontally count.
    """
    placed = list(obstacles)
    for left, right, y in labels:
        while clash := [
            height
            for start, end, height in placed
            if start < right and left < end and abs(height - y) < least
        ]:
            y = min(clash) - least
        placed.append((left, right, y))
    return [y for _, _, y in placed[len(obstacles) :]]
