"""The grid point nearest to each vector of weights, among those near its position in the grid.

Source of every formula: iq2_find_best_neighbour, iq3_find_best_neighbour and
iq1_find_best_neighbour2 in llama.cpp's ggml/src/ggml-quants.c.

ggml walks a list of neighbours for every vector at every scale. Here vectors of one position, which
have the same neighbours, are judged together by a matrix product. That product rounds unlike ggml;
where the best two are so close that this could matter they are judged again in ggml's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .columns import F32, add_rows
from .grids import Grid

_KEYS_AT_ONCE = 1 << 16
_EXACTLY_AT_ONCE = 1 << 10
_WIDEST, _NARROWEST = 32, 2
_INDEX_BITS = np.int32(0x1FF)
_NUMBERS = np.arange(_INDEX_BITS, dtype=np.int32)[:, None]
# How far a squared distance may be off, by itself and by the square of what it is a distance of:
# 2 * 88 and 2 * 132 roundings of 2**-24, and the 9 bits that give way to the number.
_OFF, _OFF_BY_SQUARE = np.float32(2**-12), np.float32(2**-15)
_TAME = np.float32(1e-30)
"""Above this, subnormal products change no squared distance of ggml's by as much."""

I16 = NDArray[np.int16]
Bools = NDArray[np.bool_]
Positions = NDArray[np.uint16]


@dataclass(frozen=True)
class Vectors:
    """Blocks cut into vectors of the grid's length, and how much each weight counts."""

    x: F32
    """[length, vectors, n]: magnitudes (a few of them negative)."""
    w: F32
    """Likewise: the weights of the fit."""
    root: F32
    """Likewise: their square roots, by which neighbours are judged."""


def nearest(
    grid: Grid, vectors: Vectors, positions: Positions, scales: F32, offset: F32 | None = None
) -> I16:
    """The grid point for each vector at each scale, int16 [tries, vectors, n].

    positions is [tries, vectors, n] and scales float32 [tries, n], in order. `offset`, float32
    [vectors, n], is what the code 0 stands for in units of the scale, 1 if it is None; it takes a
    single try.

    For a vector in one position, which of two points is nearer changes at one scale only: the
    squared distances, less what they share and divided by the scale, are straight lines. So where
    the first and the last of several tries with one position give the same point, all do.
    """
    tries, shape = len(positions), positions.shape
    # From here on the tries of one vector lie side by side.
    positions = np.ascontiguousarray(positions.reshape(tries, -1).T)
    points = grid.index[positions]
    judge = _Judge(grid, vectors, positions, np.ascontiguousarray(scales.T), offset)
    wanted, inner = points < 0, np.zeros_like(points, np.bool_)
    like_before = wanted[:, 1:] & (positions[:, 1:] == positions[:, :-1])
    np.logical_and(like_before[:, :-1], like_before[:, 1:], out=inner[:, 1:-1])
    wanted &= ~inner

    points, inner = points.reshape(-1), inner.reshape(-1)
    (items,) = np.nonzero(wanted.reshape(-1))
    sure = _settle(points, judge, items)
    (starts,) = np.nonzero(inner[items[:-1] + 1]) if len(items) > 1 else (items[:0],)
    first, last = items[starts], items[starts + 1]
    sure_first, sure_last = sure[starts], sure[starts + 1]
    while len(first):
        open_ = ~(sure_first & sure_last & (points[first] == points[last])) & (last - first > 1)
        first, last = first[open_], last[open_]
        sure_first, sure_last = sure_first[open_], sure_last[open_]
        middle = (first + last) >> 1
        sure = _settle(points, judge, middle)
        first, last = np.concatenate([first, middle]), np.concatenate([middle, last])
        sure_first = np.concatenate([sure_first, sure])
        sure_last = np.concatenate([sure, sure_last])
    by_try = np.ascontiguousarray(points.reshape(-1, tries).T)
    for before, point in pairwise(by_try):
        unset = point >> 15  # all bits where it is negative
        point ^= (point ^ before) & unset
    return by_try.reshape(shape)


def _settle(points: I16, judge: _Judge, items: NDArray[np.intp]) -> Bools:
    """Set the points of some items; returns which are nearer than all others by far."""
    points[items], close = judge(items)
    return ~close


class _Judge:
    """Finds the nearest points for vectors at scales, by their numbers in [vectors * n, tries]."""

    def __init__(
        self,
        grid: Grid,
        vectors: Vectors,
        positions: Positions,
        scales: F32,
        offset: F32 | None,
    ) -> None:
        length, self._tries, self._n = grid.length, positions.shape[1], len(scales)
        self._grid, self._positions, self._scales = grid, positions.reshape(-1), scales.reshape(-1)
        self._x, self._w = (a.reshape(length, -1) for a in (vectors.x, vectors.root))
        self._offset = offset
        x = self._x
        if offset is not None:
            x = x - (offset * scales[:, 0]).reshape(-1)
        # What `Grid.features` is multiplied by to give weighted squared distances over the scale.
        self._rows = np.empty((len(positions), 2 * length + 1), np.float32)
        self._rows[:, :length] = self._w.T
        wx = self._w * x
        self._rows[:, length:-1] = wx.T
        add_rows(wx * x, out=self._rows[:, -1])

    def __call__(self, items: NDArray[np.intp]) -> tuple[I16, Bools]:
        """The nearest points, and where another point is about as near."""
        vector = items // self._tries
        scale = self._scales[items - vector // self._n * (self._n * self._tries)]
        position = self._positions[items]
        found, close = np.empty(len(items), np.int16), np.empty(len(items), np.bool_)
        for slots, points in _tiles(self._grid, position):
            found[slots], close[slots] = self._tiled(points, vector[slots], scale[slots])
        (again,) = np.nonzero(close)
        again = again[np.argsort(self._grid.counts[position[again]], kind="stable")]
        for first in range(0, len(again), _EXACTLY_AT_ONCE):
            some = again[first : first + _EXACTLY_AT_ONCE]
            found[some], close[some] = self._exactly(position[some], vector[some], scale[some])
        return found, close

    def _tiled(self, points: I16, vector: NDArray[np.intp], scale: F32) -> tuple[I16, Bools]:
        """The same for points [tiles, near] and vectors and scales [tiles, width]."""
        (tiles, near), width, length = points.shape, vector.shape[1], self._grid.length
        rows, each = self._rows.take(vector, axis=0), scale[..., None]
        rows[..., :length] *= each
        rows[..., -1:] /= each
        square = rows[..., -1].reshape(-1)
        distances = np.empty((near, tiles, width), np.float32)
        np.matmul(
            self._grid.features.take(points, axis=0),
            rows.transpose(0, 2, 1),
            out=distances.transpose(1, 0, 2),
        )
        # Positive floats compare as the integers that their bits are; the lowest bits number them.
        keys = distances.view(np.int32).reshape(near, -1)
        keys &= ~_INDEX_BITS
        keys |= _NUMBERS[:near]
        least = np.minimum.reduce(keys, axis=0)
        # The least one itself becomes the largest number that there is.
        keys -= least
        keys -= 1
        second = np.minimum.reduce(keys.view(np.uint32), axis=0).view(np.int32)
        second += least
        second += 1
        nearest, next_ = ((a & ~_INDEX_BITS).view(np.float32) for a in (least, second))
        sure = next_ - nearest > nearest * _OFF + square * _OFF_BY_SQUARE
        sure &= nearest * scale.reshape(-1) > _TAME
        number = np.where(sure, least & _INDEX_BITS, 0).reshape(tiles, width)
        return np.take_along_axis(points, number, axis=1), ~sure.reshape(tiles, width)

    def _exactly(
        self, position: Positions, vector: NDArray[np.intp], scale: F32
    ) -> tuple[I16, Bools]:
        """The same for vectors [m] of any positions, with every sum in ggml's order."""
        grid = self._grid
        points = _listed(grid, position, int(grid.counts[position].max()))
        values = grid.values.T
        offset = None if self._offset is None else self._offset.reshape(-1)[vector, None]
        distance = np.zeros(points.shape, np.float32)
        for x, w, value in zip(self._x, self._w, values, strict=True):
            apart = value.take(points)
            if offset is not None:
                apart += offset
            apart *= scale[:, None]
            apart -= x[vector, None]
            distance += w[vector, None] * apart * apart
        distance[points == len(grid.codes)] = np.inf
        each, least = np.arange(len(points)), distance.argmin(axis=1)
        smallest = distance[each, least]
        distance[each, least] = np.inf
        close = ~(distance.min(axis=1) > smallest * np.float32(1 + 1 / 2048))
        return points[each, least], close


def _tiles(grid: Grid, positions: Positions) -> Iterator[tuple[NDArray[np.intp], I16]]:
    """(which [tiles, width], points [tiles, near]): vectors of one position and its neighbours.

    A tile that is not full repeats its last vector; neighbours that are missing are the point
    beyond the grid.
    """
    if not len(positions):
        return
    order = np.argsort(positions, kind="stable")
    where = positions[order]
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
        at_once = max(1, _KEYS_AT_ONCE // (count * width))
        for begin in range(0, len(group), at_once):
            some = group[begin : begin + at_once]
            slots = first[some, None] + np.arange(width)
            yield (
                order[np.minimum(slots, last[some, None])],
                _listed(grid, position[some], count),
            )


def _rounded(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers of neighbours rounded up, to have fewer different ones; at least 2."""
    step = np.where(counts <= 16, 1, np.where(counts <= 64, 4, 16))
    return np.maximum(-(-counts // step) * step, 2)


def _listed(grid: Grid, positions: Positions, count: int) -> I16:
    """The first `count` neighbours of each position, int16 [positions, count]."""
    steps = np.arange(count, dtype=np.int32)
    start, counts = grid.start[positions, None], grid.counts[positions, None]
    listed = steps < counts
    beyond = np.int16(len(grid.codes))
    return np.where(listed, grid.near[np.where(listed, start + steps, 0)], beyond)
