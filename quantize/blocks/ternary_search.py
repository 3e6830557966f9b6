"""What IQ1_S and IQ1_M share: sorted weights cut into three, and codes moved onto their grid.

Source of every formula: quantize_row_iq1_s_impl, quantize_row_iq1_m_impl and
iq1_find_best_neighbour2 in llama.cpp's ggml/src/ggml-quants.c.

ggml tries every cut, with every shift, one after the other. Here all scores are estimated at once;
only cuts within rounding of the best are measured as ggml does, and compared in its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import F32, add_rows, at_once
from .grids import I16, Grid, grid
from .neighbours import Vectors, nearest

UP = np.array([-0.875, 0.125, 1.125], np.float32)
"""What the codes 0, 1 and 2 stand for, in units of the scale, when shifted up; then down."""
DOWN = np.array([-1.125, -0.125, 0.875], np.float32)

_SIGN = np.int32(-(1 << 31))
_TILE = 512
_NEAR = np.float32(1 - 1 / 8192)
"""The estimates are closer to ggml's scores than 800 units in the last place, 1 / 20000."""
_MANY = 200
_TAME = 1e-25, 1e25
"""Scores, their denominators and numerators for which nothing in between under- or overflows."""

Places = NDArray[np.intp]
Measure = Callable[[Places, Places, Places, Places], tuple[F32, F32]]
"""(first, last, kind, column), [m] each, to ggml's sums of w*x*q and of w*q*q."""


@dataclass(frozen=True)
class Sums:
    """What the score of a cut of sorted weights, in columns of n, is made of.

    Weights before `first` have code 0, those from `last` on have code 2.
    """

    x: F32
    """[length + 1, n]: the sums of w*x before each place."""
    total: F32
    """[kinds, n]: the sum of w*x*q if all codes were 2, for each way to shift."""
    first: F32
    """[length + 1, kinds, n]: what `first` adds to the sum of w*q*q."""
    last: F32
    """[length + 1, kinds, n]: what `last` adds to it, and what it would be if all codes were 2."""


@dataclass(frozen=True)
class Cut:
    """The best cut of each column, [n] each; its kind is -1 where none is any good."""

    scale: F32
    first: Places
    last: Places
    kind: Places


def sort_order(x: F32) -> Places:
    """The order of each column of x [length, n]; equal weights stay in theirs.

    ggml calls qsort, which in glibc is a merge sort and so stable.
    """
    # The bits of a float, as an integer of the same order, with the place of the weight below.
    bits = np.ascontiguousarray((x + np.float32(0)).T).view(np.int32)
    keys = np.where(bits < 0, _SIGN - bits, bits).astype(np.int64)
    keys <<= 8
    keys |= np.arange(x.shape[0])
    keys.sort(axis=1)
    return np.ascontiguousarray((keys & 255).T)


def sums_before(values: F32) -> F32:
    """[length, n] to [length + 1, n]: the sums of all rows before each, added one by one."""
    sums = np.zeros((len(values) + 1, values.shape[1]), np.float32)
    for before, value, after in zip(sums[:-1], values, sums[1:], strict=True):
        np.add(before, value, out=after)
    return sums


def best_cut(sums: Sums, measure: Measure) -> Cut:
    """The cut and the way to shift that leave the smallest error."""
    length, kinds, n = len(sums.x) - 1, *sums.total.shape
    firsts, lasts = np.triu_indices(length + 1)
    first, last = np.zeros((2, n), np.intp)
    found = Cut(np.zeros(n, np.float32), first, last, np.full(n, -1, np.intp))
    tile = -(-at_once(_TILE) // 8) * 8
    memory = np.empty((len(firsts), kinds, min(n, tile)), np.float32)
    for start in range(0, n, tile):
        part = slice(start, min(start + tile, n))
        scores = memory[..., : part.stop - start]
        _estimate(sums, part, scores)
        flat = scores.reshape(-1, scores.shape[2])
        candidates, columns = _near_the_best(flat, sums.last[0, 0, part])
        cuts, kind = np.divmod(candidates, kinds)
        _choose(found, measure, firsts[cuts], lasts[cuts], kind, columns + start)
    return found


def _estimate(sums: Sums, part: slice, scores: F32) -> None:
    """Set scores [cuts, kinds, part]: (sum of w*x*q)**2 / (sum of w*q*q), ggml's but for rounding.

    From one code to the next q grows by 1 whatever the shift.
    """
    x, last = np.ascontiguousarray(sums.x[:, None, part]), sums.last[..., part]
    norms, at = np.empty_like(last), 0
    for i, total in enumerate(sums.total[None, :, part] - x):
        some = scores[at : at + len(x) - i]
        np.subtract(total, x[i:], out=some)
        np.multiply(some, some, out=some)
        np.add(sums.first[i, :, part], last[i:], out=norms[i:])
        np.divide(some, norms[i:], out=some)
        at += len(some)


def _near_the_best(scores: F32, norm: F32) -> tuple[Places, Places]:
    """(candidate, column) of all scores [candidates, n] near the best, by column.

    `norm` [n] is the sum of w*q*q if all codes were 2.
    """
    best = scores.max(axis=0)
    near = scores >= best * _NEAR
    for part in (best, norm, best * norm):
        near[:, ~((part > _TAME[0]) & (part < _TAME[1]))] = True
    near[:, near.sum(axis=0) > _MANY] = True
    # n is a multiple of 8: nearly all words of 8 are false.
    (words,) = np.nonzero(near.reshape(-1).view(np.uint64))
    which, byte = np.nonzero(near.reshape(-1, 8)[words])
    candidates, columns = np.divmod(8 * words[which] + byte, near.shape[1])
    order = np.argsort(columns, kind="stable")
    return candidates[order], columns[order]


def _choose(
    found: Cut, measure: Measure, first: Places, last: Places, kind: Places, column: Places
) -> None:
    """ggml's rule: in order, a candidate that scores higher than the best so far replaces it.

    Leaving out candidates far from the best changes nothing: somewhere among the near ones there
    is a gap that rounding cannot bridge, and no candidate below it survives one above it.
    """
    starts = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
    rank = np.arange(len(column)) - np.repeat(starts, np.diff(np.r_[starts, len(column)]))
    order = np.argsort(rank, kind="stable")
    sum_qx, sum_q2 = measure(first, last, kind, column)
    best = np.full(len(found.scale), -np.finfo(np.float32).max, np.float32)
    for some in np.split(order, np.cumsum(np.bincount(rank))[:-1]):
        qx, q2 = sum_qx[some], sum_q2[some]
        better = (qx * qx > best[column[some]] * q2) & (q2 > 0)
        some, qx, where = some[better], qx[better], column[some[better]]
        scale = qx / q2[better]
        best[where] = scale * qx
        found.scale[where] = scale
        found.first[where], found.last[where] = first[some], last[some]
        found.kind[where] = kind[some]


def codes_of(cut: Cut, order: Places) -> tuple[F32, NDArray[np.int8], NDArray[np.bool_]]:
    """Positive scales [n], codes [length, n], and where both were turned about."""
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(len(order))[:, None], axis=0)
    codes = (place >= cut.first).astype(np.int8) + (place >= cut.last)
    turned = cut.scale < 0
    codes[:, turned] = 2 - codes[:, turned]
    return np.abs(cut.scale), codes, turned


def to_points(
    points: Grid, x: F32, w: F32, codes: NDArray[np.int8], scale: F32, offset: F32
) -> tuple[F32, I16]:
    """Codes 0, 1, 2 [length, n] moved onto the grid: (scale [n], points [vectors, n]).

    A code stands for scale * (code + offset), offset float32 [vectors, n]. Where a vector moved,
    the scale is fitted again.
    """
    length, n = x.shape
    vectors = length // 8

    def in_eights(a: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(a.reshape(vectors, 8, n).transpose(1, 0, 2)).reshape(8, -1)

    flat = Vectors(*(in_eights(a)[:, None] for a in (x, w, w)))
    positions = points.positions(in_eights(codes).astype(np.float32))[None, None]
    scales = np.tile(scale, vectors)[None]
    found = nearest(points, flat, positions, scales, offset.reshape(1, -1)).reshape(vectors, n)
    moved = (points.index[positions.reshape(vectors, n)] < 0).any(axis=0)
    q = values_of(found, offset)
    wq = w * q
    zero = np.float32(0)
    sum_qx, sum_q2 = (add_rows(wq * a, initial=zero) for a in (x, q))
    moved &= (sum_qx > 0) & (sum_q2 > 0)
    scale = scale.copy()
    np.divide(sum_qx, sum_q2, out=scale, where=moved)
    return scale, found


def values_of(found: NDArray[np.integer[Any]], offset: F32) -> F32:
    """The values of points and offsets [vectors, n] in units of the scale, [8 * vectors, n]."""
    codes = grid("IQ1_S").codes.T.astype(np.float32)
    values = np.empty((len(found), 8, found.shape[1]), np.float32)
    for one, point, shift in zip(values, found, offset, strict=True):
        np.take(codes, point, axis=1, out=one)
        one += shift
    return values.reshape(-1, found.shape[1])


def blocks_of(found: NDArray[np.integer[Any]]) -> F32:
    """Points [...] of the grid of IQ1 as their values -1, 0 and 1, float32 [..., 8]."""
    values: F32 = grid("IQ1_S").codes[found].astype(np.float32)
    return values - np.float32(1)
