"""What IQ1_S and IQ1_M share: weights cut into three by size, then moved onto their grid.

Source of every formula: quantize_row_iq1_s_impl, quantize_row_iq1_m_impl and
iq1_find_best_neighbour2 in llama.cpp's ggml/src/ggml-quants.c.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import F32
from .grid_search import I16, Vectors, nearest
from .grids import Grid, grid

_SIGN = np.int32(-(1 << 31))


def sort_order(x: F32) -> NDArray[np.intp]:
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
    found = nearest(points, flat, positions, scales, offset.reshape(-1)).reshape(vectors, n)
    moved = (points.index[positions.reshape(vectors, n)] < 0).any(axis=0)
    values = points.codes.T.astype(np.float32)
    sum_qx, sum_q2 = np.zeros((2, n), np.float32)
    for k in range(vectors):
        for i in range(8):
            q = values[i].take(found[k]) + offset[k]
            wq = w[8 * k + i] * q
            sum_qx += wq * x[8 * k + i]
            sum_q2 += wq * q
    moved &= (sum_qx > 0) & (sum_q2 > 0)
    scale = scale.copy()
    np.divide(sum_qx, sum_q2, out=scale, where=moved)
    return scale, found


def blocks_of(found: NDArray[np.integer[Any]]) -> F32:
    """Points [...] of the grid of IQ1 as their values -1, 0 and 1, float32 [..., 8]."""
    return grid("IQ1_S").codes[found].astype(np.float32) - np.float32(1)
