"""The grid point nearest to each vector of weights, among those near its position in the grid.

Source of every formula: iq2_find_best_neighbour, iq3_find_best_neighbour and
iq1_find_best_neighbour2 in llama.cpp's ggml/src/ggml-quants.c.

ggml walks a list of neighbours for every vector at every scale. Here vectors of one position, which
have the same neighbours, are judged together: a matrix product gives their squared distances as
functions of the scale. These round unlike ggml's; where the best two are so close that this could
matter they are judged again in ggml's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import F32, add_rows
from .grids import I16, Grid, Positions
from .neighbour_tiles import KEYS_AT_ONCE, Places, listed_near, tiles_of

_EXACTLY_AT_ONCE = 1 << 10
_INDEX_BITS = np.int32(0x1FF)
_NUMBERS = np.arange(_INDEX_BITS, dtype=np.int32)[:, None, None]
# How far a squared distance may be off, by itself and by the square of what it is a distance of:
# 2 * 88 and 2 * 132 roundings of 2**-24, and the 9 bits that give way to the number.
_OFF, _OFF_BY_SQUARE = np.float32(2**-12), np.float32(2**-15)
_TAME = np.float32(1e-30)
"""Above this, subnormal products change no squared distance of ggml's by as much."""

Bools = NDArray[np.bool_]


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
    """
    tries = len(positions)
    # From here on the tries of one vector lie side by side; a run of them has one position.
    by_vector = np.ascontiguousarray(positions.reshape(tries, -1).T).reshape(-1)
    begins = np.ones(len(by_vector), np.bool_)
    np.not_equal(by_vector[1:], by_vector[:-1], out=begins[1:])
    begins[::tries] = True
    (starts,) = np.nonzero(begins)
    counts = np.diff(starts, append=len(by_vector))
    points = grid.index[by_vector[starts]]
    (off,) = np.nonzero(points < 0)
    judge = _Judge(grid, vectors, by_vector, scales, offset)
    points[off], items, found = judge(starts[off], counts[off])
    every = np.repeat(points, counts)
    every[items] = found
    return np.ascontiguousarray(every.reshape(-1, tries).T).reshape(positions.shape)


class _Judge:
    """Finds the nearest points of runs of tries, by their numbers in [vectors * n, tries].

    For a vector in one position, which of two points is nearer changes at one scale only: the
    squared distances, less what they share and divided by the scale, are straight lines. So where
    the first and the last try of a run give the same point, all do.
    """

    def __init__(
        self, grid: Grid, vectors: Vectors, positions: Positions, scales: F32, offset: F32 | None
    ) -> None:
        length, self._tries, self._period = grid.length, len(scales), scales.size
        self._grid, self._positions = grid, positions
        self._scales = np.ascontiguousarray(scales.T).reshape(-1)
        self._x, self._w = (a.reshape(length, -1) for a in (vectors.x, vectors.root))
        self._offset = offset
        x = self._x
        if offset is not None:
            x = x - (offset * scales[0]).reshape(-1)
        w = self._w if self._tries > 1 else self._w * np.tile(scales[0], x.shape[1] // scales.size)
        # w, w * x and the sum of w * x * x of each vector; with a single try, w is scaled already.
        self._rows = np.empty((x.shape[1], 2 * length + 1), np.float32)
        self._rows[:, :length] = w.T
        wx = self._w * x
        self._rows[:, length:-1] = wx.T
        add_rows(wx * x, out=self._rows[:, -1])

    def __call__(self, starts: Places, counts: Places) -> tuple[I16, Places, I16]:
        """(a point for each run, tries that have their own, and these)."""
        order = np.argsort(self._positions[starts], kind="stable")
        starts, counts = starts[order], counts[order]
        found, by_run = np.empty((2, len(starts)), np.int16)
        items, points, unsure = [starts[:0]], [found[:0]], [starts[:0]]
        for slots, listed in tiles_of(self._grid, self._positions[starts]):
            start, count = starts[slots], counts[slots]
            lines = self._lines(listed, start // self._tries)
            ends = np.stack([start, start + count - 1])[: self._tries]
            numbers = lines.nearest(self._scales_of(ends))
            found[slots] = lines.points(numbers[0])
            settled = (numbers[0] >= 0) & (numbers[0] == numbers[-1])
            settled[1:] |= slots[1:] == slots[:-1]
            unsure.append(start[~settled & (count == 1)])
            (open_,) = np.nonzero(~settled & (count > 1))
            if len(open_):
                part = lines.some(open_)
                for tries, own, sure in self._turns(
                    part, start[open_], count[open_], numbers[:, open_]
                ):
                    items.append(tries)
                    points.append(own)
                    unsure.append(tries[~sure])
        by_run[order] = found
        items.append(np.concatenate(unsure))
        points.append(self._exactly(items[-1]))
        return by_run, np.concatenate(items), np.concatenate(points)

    def _turns(
        self, lines: _Lines, start: Places, count: Places, ends: Places
    ) -> Iterator[tuple[Places, I16, Bools]]:
        """(tries, their points, whether they are sure) of runs whose ends [2, m] differ.

        Most change once, where the lines of the two ends cross: the tries on both sides tell.
        """
        first, last = ends
        sides = start + self._crossing(lines, start, count, first, last)
        agree = (ends >= 0) & (ends == lines.nearest(self._scales_of(sides)))
        once = agree[0] & agree[1] & (first != last)
        changed = (start + count - sides[1]) * once
        items = np.repeat(sides[1] - np.cumsum(changed) + changed, changed)
        items += np.arange(len(items))
        yield items, np.repeat(lines.points(last), changed), np.ones(len(items), np.bool_)

        (rest,) = np.nonzero(~once)
        rest = rest[np.argsort(-count[rest])]
        while len(rest):
            most = count[rest[0]]
            size = max(1, KEYS_AT_ONCE // (len(lines.slope) * int(most)))
            some, rest = rest[:size], rest[size:]
            part = lines.some(some)
            every = start[some] + np.minimum(np.arange(most)[:, None], count[some] - 1)
            numbers = part.nearest(self._scales_of(every))
            yield every.reshape(-1), part.points(numbers).reshape(-1), numbers.reshape(-1) >= 0

    def _crossing(
        self, lines: _Lines, start: Places, count: Places, first: Places, last: Places
    ) -> Places:
        """Between which two tries of a run the lines of two points cross, [2, m]; a guess."""
        each = np.arange(len(start))
        rise = lines.slope[last, each] - lines.slope[first, each]
        fall = lines.level[first, each] - lines.level[last, each]
        # The scales are the reciprocals of evenly spaced numbers.
        begin, end = 1 / self._scales_of(np.stack([start, start + count - 1]))
        before = (rise / fall - begin) / (end - begin) * (count - 1)
        before = np.clip(before.astype(np.intp), 0, count - 2)
        return np.stack([before, before + 1])

    def _scales_of(self, items: Places) -> F32:
        return self._scales.take(items - items // self._period * self._period)

    def _lines(self, listed: I16, vector: Places) -> _Lines:
        """Of vectors [tiles * width] and the points listed [tiles, near] for them."""
        (tiles, near), length = listed.shape, self._grid.length
        rows = self._rows.take(vector, axis=0)
        turned = rows.reshape(tiles, -1, 2 * length + 1).transpose(0, 2, 1)[:, :-1]
        features = self._grid.features.take(listed, axis=0)
        slope, level = np.zeros((2, near, tiles, turned.shape[2]), np.float32)
        if self._tries == 1:
            np.matmul(features, turned, out=level.transpose(1, 0, 2))
        else:
            for out, part in (slope, slice(length)), (level, slice(length, None)):
                np.matmul(features[..., part], turned[:, part], out=out.transpose(1, 0, 2))
        slope[len(self._grid.codes) == listed.T] = np.inf
        at = np.repeat(np.arange(0, listed.size, near), turned.shape[2])
        slope, level = (a.reshape(near, -1) for a in (slope, level))
        return _Lines(slope, level, rows[:, -1], listed.reshape(-1), at)

    def _exactly(self, items: Places) -> I16:
        """The nearest points of some tries, with every sum in ggml's order."""
        found, position = np.empty(len(items), np.int16), self._positions[items]
        by_count = np.argsort(self._grid.counts[position], kind="stable")
        for first in range(0, len(items), _EXACTLY_AT_ONCE):
            some = by_count[first : first + _EXACTLY_AT_ONCE]
            found[some] = self._exact(position[some], items[some])
        return found

    def _exact(self, position: Positions, items: Places) -> I16:
        grid, vector = self._grid, items // self._tries
        points = listed_near(grid, position, int(grid.counts[position].max()))
        offset = None if self._offset is None else self._offset.reshape(-1)[vector, None]
        scale = self._scales_of(items)[:, None]
        distance = np.zeros(points.shape, np.float32)
        for x, w, value in zip(self._x, self._w, grid.values.T, strict=True):
            apart = value.take(points)
            if offset is not None:
                apart += offset
            apart *= scale
            apart -= x[vector, None]
            distance += w[vector, None] * apart * apart
        distance[points == len(grid.codes)] = np.inf
        nearest: I16 = points[np.arange(len(points)), distance.argmin(axis=1)]
        return nearest


class _Lines(NamedTuple):
    """Squared distances of m vectors to points, divided by the scale s: as slope * s + level.

    What they share, rest / s, is added to have them positive.
    """

    slope: F32
    """[near, m]."""
    level: F32
    rest: F32
    """[m]."""
    listed: I16
    """The points of vector i begin at listed[at[i]]."""
    at: Places

    def some(self, which: Places) -> _Lines:
        """The same of some vectors."""
        slope, level = (a.take(which, axis=1) for a in (self.slope, self.level))
        return _Lines(slope, level, self.rest[which], self.listed, self.at[which])

    def points(self, numbers: Places) -> I16:
        """The points with these numbers [..., m] among those listed for each vector."""
        return self.listed.take(self.at + numbers)

    def nearest(self, scales: F32) -> Places:
        """The numbers of the nearest points at scales [tries, m]; -1 if two are about as near."""
        square = self.rest / scales
        distances = self.slope[:, None] * scales
        distances += self.level[:, None]
        distances += square
        # Positive floats compare as the integers that their bits are; the lowest bits number them.
        keys = distances.view(np.int32)
        keys &= ~_INDEX_BITS
        keys |= _NUMBERS[: len(keys)]
        least = np.minimum.reduce(keys, axis=0)
        # The least one itself becomes the largest number that there is.
        above = least + np.int32(1)
        keys -= above
        second = np.minimum.reduce(keys.view(np.uint32), axis=0).view(np.int32)
        second += above
        nearest, next_ = ((a & ~_INDEX_BITS).view(np.float32) for a in (least, second))
        sure = next_ - nearest > nearest * _OFF + square * _OFF_BY_SQUARE
        sure &= nearest * scales > _TAME
        return np.where(sure, least & _INDEX_BITS, -1).astype(np.intp)
