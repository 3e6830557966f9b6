"""Splits consecutive layers over devices, in order. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate


def by_shares(n_layers: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Number of layers for each device by llama.cpp's rule for tensor_split, with any sum.

    Layer i of n goes to the first device whose cumulative share is above i / n of the sum. So
    shares that are numbers of layers give each device exactly that many.
    """
    ends = list(accumulate(shares))
    homes = Counter(
        bisect_right([end / ends[-1] for end in ends], i / n_layers) for i in range(n_layers)
    )
    return tuple(homes[device] for device in range(len(shares)))


def by_room(
    n_layers: int, n_devices: int, has_room: Callable[[tuple[int, ...]], bool]
) -> tuple[int, ...]:
    """Number of layers for each device, each filled before the next; the last gets the rest.

    `has_room` is called with the counts of the first devices; it returns whether the last of those
    devices has room for its layers.
    """
    counts: tuple[int, ...] = ()
    for _ in range(n_devices - 1):
        left = range(1, n_layers - sum(counts) + 1)
        before = counts
        most = bisect_left(left, True, key=lambda n: not has_room((*before, n)))
        counts = (*counts, most)
    return (*counts, n_layers - sum(counts))
