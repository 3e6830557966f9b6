"""The searches of IQ2 and IQ3: scales tried one by one, each vector of codes moved onto the grid.

Source of every formula: iq2_find_best_neighbour, iq3_find_best_neighbour and the loops around them
in quantize_row_iq2_xxs_impl and its siblings, llama.cpp's ggml/src/ggml-quants.c.

ggml walks a list of neighbours for every vector at every scale. Here the points of all vectors of a
chunk at all scales are found first (see neighbours.py), and then the scales are compared in order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .columns import F32
from .grids import I16, Grid, Positions
from .neighbours import Vectors, nearest
from .subblocks import round_to_codes


def codes_at(grid: Grid, vectors: Vectors, inverse: F32) -> tuple[F32, Positions]:
    """ggml's codes for x * inverse [n], float32 [length, vectors, n], and their positions."""
    codes = vectors.x * inverse
    codes -= np.float32(1)
    codes *= np.float32(0.5)
    round_to_codes(codes, 0, grid.levels - 1)
    positions = grid.positions(codes.reshape(grid.length, -1)).reshape(codes.shape[1:])
    return codes, positions


def fits(grid: Grid, wx: F32, w: F32, points: I16) -> tuple[F32, F32]:
    """The sums of w*x*q and of w*q*q over each block, [n] each, for the points [vectors, n].

    wx and w are [length, vectors, n].
    """
    values = np.ascontiguousarray(grid.values.T)
    sum_qx, sum_q2 = np.zeros((2, points.shape[1]), np.float32)
    product = np.empty(points.shape[1], np.float32)
    for k, point in enumerate(points.astype(np.intp)):
        for i, value in enumerate(values):
            q = value.take(point)
            np.multiply(wx[i, k], q, out=product)
            sum_qx += product
            np.multiply(w[i, k], q, out=product)
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

    wx = vectors.w * vectors.x
    scale, best = start.copy(), np.zeros_like(start)
    chosen = np.full(len(start), -1, np.intp)
    for i, point in enumerate(points):
        sum_qx, sum_q2 = fits(grid, wx, vectors.w, point)
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
        sum_qx, sum_q2 = fits(grid, part.w * part.x, part.w, refined)
        fit = scale[some]
        np.divide(sum_qx, sum_q2, out=fit, where=sum_q2 > 0)
        scale[some] = fit
    return scale, won
