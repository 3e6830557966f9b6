"""Layers dealt over devices, in the order of both. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate


def by_shares(n_layers: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Layers for each device by llama.cpp's rule for tensor_split, whatever the shares sum to.

    Layer i of n goes to the first device whose share, with all before it, is above i / n of the
    sum. So shares that are numbers of layers are what each device gets.
    """
    ends = list(accumulate(shares))
    homes = Counter(
        bisect_right([end / ends[-1] for end in ends], i / n_layers) for i in range(n_layers)
    )
    return tuple(homes[device] for device in range(len(shares)))


def by_room(
    n_layers: int, n_devices: int, has_room: Callable[[tuple[int, ...]], bool]
) -> tuple[int, ...]:
    """Layers for each device where one after the other takes all it can, the last what is left.

    `has_room` tells of the layers of the first devices whether the last of those has room for its.
    """
    counts: tuple[int, ...] = ()
    for _ in range(n_devices - 1):
        left = range(1, n_layers - sum(counts) + 1)
        before = counts
        most = bisect_left(left, True, key=lambda n: not has_room((*before, n)))
        counts = (*counts, most)
    return (*counts, n_layers - sum(counts))
