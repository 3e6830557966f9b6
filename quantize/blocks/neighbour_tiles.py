"""Vectors of one position in a grid cut into tiles, which have the same neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .grids import I16, Grid, Positions

KEYS_AT_ONCE = 1 << 16
"""How many distances of vectors to points are worked on at once."""
_WIDEST, _NARROWEST = 32, 2

Places = NDArray[np.intp]


def tiles_of(grid: Grid, where: Positions) -> Iterator[tuple[Places, I16]]:
    """(which [tiles * width], points [tiles, near]): vectors of one position and its neighbours.

    `where` is the position of each vector, sorted. A tile that is not full repeats its last vector;
    neighbours that are missing are the point beyond the grid.
    """
    if not len(where):
        return
    starts = np.flatnonzero(np.r_[True, where[1:] != where[:-1]])
    ends = np.r_[starts[1:], len(where)]
    width = _NARROWEST
    while width < _WIDEST and 2 * width * len(starts) < len(where):
        width *= 2
    tiles = -((starts - ends) // width)
    segment = np.repeat(np.arange(len(starts)), tiles)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(tiles) - tiles, tiles)
    first, last = starts[segment] + width * number, ends[segment] - 1
    position = where[starts[segment]]
    near = _rounded(grid.counts[position])
    by_count = np.argsort(near, kind="stable")
    cuts = np.flatnonzero(np.diff(near[by_count])) + 1
    for group in np.split(by_count, cuts):
        count = int(near[group[0]])
        at_once = max(1, KEYS_AT_ONCE // (count * width))
        for begin in range(0, len(group), at_once):
            some = group[begin : begin + at_once]
            slots = first[some, None] + np.arange(width)
            yield (
                np.minimum(slots, last[some, None]).reshape(-1),
                listed_near(grid, position[some], count),
            )


def _rounded(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of neighbours rounded up, to have fewer different ones; at least 2."""
    step = np.where(counts <= 16, 1, np.where(counts <= 64, 4, 16))
    return np.maximum(-(-counts // step) * step, 2)


def listed_near(grid: Grid, positions: Positions, count: int) -> I16:
    """The first `count` neighbours of each position, int16 [positions, count]."""
    steps = np.arange(count, dtype=np.int32)
    start, counts = grid.start[positions, None], grid.counts[positions, None]
    listed = steps < counts
    beyond = np.int16(len(grid.codes))
    return np.where(listed, grid.near[np.where(listed, start + steps, 0)], beyond)
