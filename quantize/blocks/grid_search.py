"""The searches of IQ2 and IQ3: scales tried one by one, each vector of codes moved onto the grid.

Source of every formula: iq2_find_best_neighbour, iq3_find_best_neighbour and the loops around them
in quantize_row_iq2_xxs_impl and its siblings, llama.cpp's ggml/src/ggml-quants.c.

ggml walks a list of neighbours for every vector at every scale. Here all vectors of a chunk at all
scales are sorted by their position, so that those with the same neighbours are judged by one matrix
product. That product rounds unlike ggml; where the best two are so close that this could matter
they are judged again in ggml's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import F32
from .grids import Grid
from .subblocks import round_to_codes

_BATCH = 1 << 20
_NEAR = 1 << 12
_EXACTLY = 1 << 10
_MANY = 16
_INDEX_BITS = 0x1FF
_NUMBERS = np.arange(_INDEX_BITS, dtype=np.int32)[:, None]
_CLOSE = np.uint32(0x1000)
"""Distances are compared as the integers that their bits are: 2**12 of them are 1/2048 apart."""

I16 = NDArray[np.int16]
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


def codes_at(grid: Grid, vectors: Vectors, inverse: F32) -> tuple[F32, Positions]:
    """ggml's codes for x * inverse [n], float32 [length, vectors, n], and their positions."""
    codes = vectors.x * inverse
    codes -= np.float32(1)
    codes *= np.float32(0.5)
    round_to_codes(codes, 0, grid.levels - 1)
    positions = grid.positions(codes.reshape(grid.length, -1)).reshape(codes.shape[1:])
    return codes, positions


def nearest(
    grid: Grid, vectors: Vectors, positions: Positions, scales: F32, offset: F32 | None = None
) -> I16:
    """The grid point for each vector at each scale.

    A code stands for scale * (grid.step * code + offset), offset float32 [n] or 1.

    positions is [tries, vectors, n] and scales float32 [tries, n], in order; returns int16 [tries,
    vectors, n].

    For a vector in one position, which of two points is nearer changes at one scale only: the
    squared distances, less what they share and divided by the scale, are straight lines. So where
    the first and the last of several tries with one position give the same point, all do.
    """
    if offset is None:
        offset = np.ones(positions.shape[-1], np.float32)
    points = np.take(grid.index, positions)
    vacant = points < 0
    between = np.zeros_like(vacant)
    between[1:-1] = vacant[1:-1] & (positions[1:-1] == positions[:-2])
    between[1:-1] &= positions[1:-1] == positions[2:]
    sure = _judge(grid, vectors, positions, scales, offset, vacant & ~between, points)
    if between.any():
        before, after = np.where(sure, points, np.int16(-1)), np.where(sure, points, np.int16(-2))
        for i in range(1, len(points) - 1):
            np.copyto(before[i], before[i - 1], where=between[i])
            np.copyto(after[-i - 1], after[-i], where=between[-i - 1])
        agreed = between & (before == after)
        np.copyto(points, before, where=agreed)
        _judge(grid, vectors, positions, scales, offset, between & ~agreed, points)
    return points


def _judge(
    grid: Grid,
    vectors: Vectors,
    positions: Positions,
    scales: F32,
    offset: F32,
    wanted: NDArray[np.bool_],
    points: I16,
) -> NDArray[np.bool_]:
    """Set the points that are wanted; returns which points are nearer than all others by far."""
    tries, per_block, n = positions.shape
    (items,) = np.nonzero(wanted.reshape(-1))
    where = positions.reshape(-1)[items]
    order = np.argsort(where, kind="stable")
    items, where = items[order], where[order]
    vector = items % (per_block * n)
    scale = scales.reshape(-1)[items // (per_block * n) * n + items % n]
    x, root = (a.reshape(grid.length, -1).take(vector, 1) for a in (vectors.x, vectors.root))
    found, close = _nearest(grid, where, x, root, scale, offset[items % n])
    points.reshape(-1)[items] = found
    sure = ~wanted
    sure.reshape(-1)[items[~close]] = True
    return sure


def _nearest(
    grid: Grid, positions: Positions, x: F32, w: F32, scale: F32, offset: F32
) -> tuple[I16, NDArray[np.bool_]]:
    """The nearest point to each x [length, m], whose positions [m] are sorted and vacant.

    Also for which of them another point is about as near.
    """
    best = np.empty(len(positions), np.int32)
    behind = np.zeros(len(positions), np.uint32)
    features = _features(grid, positions, x, w, scale, offset)
    for start, end, first, last in _segments(grid, positions):
        keys = (grid.moves[first:last] @ features[:, start:end]).view(np.int32)
        keys &= ~_INDEX_BITS
        keys |= _NUMBERS[: last - first]
        least = np.minimum.reduce(keys, axis=0, out=best[start:end])
        # The least one itself becomes the largest number that there is.
        keys -= least
        keys -= 1
        np.minimum.reduce(keys.view(np.uint32), axis=0, out=behind[start:end])
    close = (behind <= _CLOSE) | (best < 0)
    best[close] = 0
    found: I16 = grid.near[grid.start[positions] + (best & _INDEX_BITS)]
    (again,) = np.nonzero(close)
    counts = np.diff(grid.start)[positions[again]]
    again = again[np.argsort(counts, kind="stable")]
    for first in range(0, len(again), _EXACTLY):
        part = again[first : first + _EXACTLY]
        found[part], close[part] = _nearest_exactly(
            grid, positions[part], x[:, part], w[:, part], scale[part], offset[part]
        )
    return found, close


def _segments(grid: Grid, positions: Positions) -> Iterator[tuple[int, int, int, int]]:
    """(start, end) of many equal ones among sorted positions, (first, last) of their neighbours."""
    starts = np.flatnonzero(np.r_[True, positions[1:] != positions[:-1]])
    ends = np.r_[starts[1:], len(positions)]
    many = ends - starts >= _MANY
    starts, ends = starts[many], ends[many]
    kinds = positions[starts].astype(np.intp)
    firsts, lasts = grid.start[kinds], grid.start[kinds + 1]
    yield from zip(starts.tolist(), ends.tolist(), firsts.tolist(), lasts.tolist(), strict=True)


def _features(grid: Grid, positions: Positions, x: F32, w: F32, scale: F32, offset: F32) -> F32:
    """What `Grid.moves` is multiplied by to give the weighted squared distances."""
    length = grid.length
    features = np.empty((2 * length + 1, len(positions)), np.float32)
    for first in range(0, len(positions), _NEAR):
        part = slice(first, first + _NEAR)
        some, near_w, near_scale = features[:, part], w[:, part], scale[part]
        rest = np.take(grid.at, positions[part], axis=0).T.astype(np.float32)
        rest *= grid.step
        rest += offset[part]
        rest *= near_scale
        rest -= x[:, part]
        np.multiply(near_w, rest, out=some[:length])
        np.add.reduce(some[:length] * rest, axis=0, out=some[-1])
        move = near_scale * grid.step
        some[:length] *= move + move
        np.multiply(near_w, move * move, out=some[length:-1])
    return features


def _nearest_exactly(
    grid: Grid, positions: Positions, x: F32, w: F32, scale: F32, offset: F32
) -> tuple[I16, NDArray[np.bool_]]:
    """The same, with every sum in ggml's order; positions need not be sorted."""
    start = grid.start[positions]
    count = grid.start[positions.astype(np.intp) + 1] - start
    steps = np.arange(count.max())
    listed = steps < count[:, None]
    points = grid.near[np.where(listed, start[:, None] + steps, start[:, None])]
    values = grid.step * grid.codes.T.astype(np.float32)
    distance = np.zeros(points.shape, np.float32)
    for i in range(grid.length):
        apart = scale[:, None] * (values[i].take(points) + offset[:, None]) - x[i][:, None]
        distance += w[i][:, None] * apart * apart
    distance[~listed] = np.inf
    each, least = np.arange(len(points)), distance.argmin(axis=1)
    nearest = distance[each, least]
    distance[each, least] = np.inf
    close = distance.min(axis=1) <= nearest * np.float32(1 + 1 / 2048)
    return points[each, least], close


def fits(grid: Grid, vectors: Vectors, points: I16) -> tuple[F32, F32]:
    """The sums of w*x*q and of w*q*q over each block, [n] each, for the points [vectors, n]."""
    values = (2 * grid.codes.astype(np.float32) + np.float32(1)).T
    sum_qx, sum_q2 = np.zeros((2, points.shape[1]), np.float32)
    product = np.empty(points.shape[1], np.float32)
    for k, point in enumerate(points):
        for i in range(grid.length):
            q = values[i].take(point)
            x, w = vectors.x[i, k], vectors.w[i, k]
            np.multiply(w, x, out=product)
            product *= q
            sum_qx += product
            np.multiply(w, q, out=product)
            product *= q
            sum_q2 += product
    return sum_qx, sum_q2


def search_on_grid(
    grid: Grid, vectors: Vectors, reaches: NDArray[np.float32], largest: F32, start: F32, again: str
) -> tuple[F32, I16]:
    """The scale [n] of each block and its points [vectors, n], the best of the tries.

    A try puts `largest` [n] on one of the `reaches`. `start` is the scale if no try is any good.
    Afterwards the points are chosen once more, for the scale that fits the best try: `again` says
    for which vectors, "all" of them, those "off" the grid at first, or all of a block with one
    "off in block".
    """
    inverses = reaches[:, None] / largest
    positions = np.empty((len(reaches), *vectors.x.shape[1:]), np.uint16)
    for found, inverse in zip(positions, inverses, strict=True):
        found[...] = codes_at(grid, vectors, inverse)[1]
    points = nearest(grid, vectors, positions, np.float32(1) / inverses)

    scale, best = start.copy(), np.zeros_like(start)
    chosen = np.full(len(start), -1, np.intp)
    for i, point in enumerate(points):
        sum_qx, sum_q2 = fits(grid, vectors, point)
        better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2)
        np.divide(sum_qx, sum_q2, out=scale, where=better)
        np.multiply(scale, sum_qx, out=best, where=better)
        chosen[better] = i
    each = np.arange(len(start))
    won = points[chosen, :, each].T
    won[:, chosen < 0] = grid.index[0]
    off = grid.index[positions[chosen, :, each].T] < 0
    off[:, chosen < 0] = again != "off"
    if again == "all":
        off[:] = True
    elif again == "off in block":
        off[:] = off.any(axis=0)
    off &= scale > 0
    (some,) = np.nonzero(off.any(axis=0))
    if some.size:
        part = Vectors(vectors.x[..., some], vectors.w[..., some], vectors.root[..., some])
        last = codes_at(grid, part, np.float32(1) / scale[some])[1]
        moved = nearest(grid, part, last[None], scale[None, some])[0]
        refined = np.where(off[:, some], moved, won[:, some])
        won[:, some] = refined
        sum_qx, sum_q2 = fits(grid, part, refined)
        fit = scale[some]
        np.divide(sum_qx, sum_q2, out=fit, where=sum_q2 > 0)
        scale[some] = fit
    return scale, won
