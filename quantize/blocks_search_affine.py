"""The search for a scale and a minimum, x = scale * q + minimum, over many blocks at once.

Source of the formulas: make_qkx2_quants and make_qkx3_quants in llama.cpp's ggml/src/ggml-quants.c,
which are one search: they differ where their inputs never do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .blocks_layout import F32, first_minimum
from .blocks_subblocks import round_to_codes


class Grid(NamedTuple):
    """Codes 0..levels; inverse scales tried: (levels + first + step * i) / span, i in 0..tries."""

    levels: int
    first: float
    step: float
    tries: int
    absolute: bool = False
    """Judge a try by the sum of |error|, not of its square."""


class Affine(NamedTuple):
    """What a search found, each float32 [n]."""

    scale: F32
    minimum: F32
    """Zero or less."""
    inverse: F32
    """The search's codes are those of affine_codes(x, inverse, base, levels)."""
    base: F32


def affine_codes(x: F32, inverse: F32, base: F32, levels: int, out: F32) -> None:
    """The codes round((x - base) * inverse) within 0..levels, as float32 [block_len, n]."""
    np.subtract(x, base, out=out)
    np.multiply(out, inverse, out=out)
    round_to_codes(out, 0, levels)


def search_affine(x: F32, w: F32, grid: Grid) -> Affine:
    """Scale and minimum of each column of x [block_len, n] under the weights w, likewise.

    Every try of the grid rounds x to codes, fits scale and minimum to them by weighted least
    squares, and replaces the best so far where the weighted error is smaller; the tries that follow
    start from the new minimum.
    """
    low = first_minimum(x)
    low[low > 0] = 0
    high: F32 = np.maximum.reduce(x, axis=0)
    flat = np.flatnonzero(high == low)
    lowest = low[flat]
    high[flat] = lowest == 0  # any span but none; what is found is thrown away below

    codes, weighted, product = np.empty((3, *x.shape), np.float32)
    sum_w = np.add.reduce(w, axis=0)
    sum_x = np.add.reduce(np.multiply(w, x, out=product), axis=0)

    # One row each: scale, minimum, inverse scale, base, error.
    best = np.empty((5, x.shape[1]), np.float32)
    trial = np.empty_like(best)
    scale, minimum, inverse, base, error = trial
    sum_l, sum_xl, sum_l2 = np.empty((3, x.shape[1]), np.float32)

    def measure() -> None:
        """Set `error` of the codes under the trial's scale and minimum. Destroys the codes."""
        np.multiply(codes, scale, out=codes)
        np.add(codes, minimum, out=codes)
        np.subtract(codes, x, out=codes)
        (np.abs if grid.absolute else np.square)(codes, out=codes)
        np.multiply(codes, w, out=codes)
        np.add.reduce(codes, axis=0, out=error)

    np.divide(np.float32(grid.levels), high - low, out=inverse)
    np.divide(np.float32(1), inverse, out=scale)
    base[...] = minimum[...] = low
    affine_codes(x, inverse, base, grid.levels, codes)
    measure()
    best[...] = trial

    for i in range(grid.tries + 1):
        numerator = np.float32(grid.first) + np.float32(grid.step) * np.float32(i)
        base[...] = best[1]
        np.subtract(high, base, out=inverse)
        np.divide(numerator + np.float32(grid.levels), inverse, out=inverse)
        affine_codes(x, inverse, base, grid.levels, codes)

        np.multiply(w, codes, out=weighted)
        np.add.reduce(weighted, axis=0, out=sum_l)
        np.multiply(weighted, x, out=product)
        np.add.reduce(product, axis=0, out=sum_xl)
        np.multiply(weighted, codes, out=weighted)
        np.add.reduce(weighted, axis=0, out=sum_l2)

        positive = _fit(sum_w, sum_x, sum_l, sum_xl, sum_l2, scale, minimum)
        measure()
        better = np.flatnonzero((error < best[4]) & positive)
        best[:, better] = trial[:, better]

    best[:, flat] = 0
    best[1, flat] = lowest
    return Affine(*best[:4])


def _fit(
    sum_w: F32, sum_x: F32, sum_l: F32, sum_xl: F32, sum_l2: F32, scale: F32, minimum: F32
) -> NDArray[np.bool_]:
    """Set the scale and the minimum, 0 or less, of least weighted squared error for given codes.

    The sums are of w, w*x, w*l, w*l*x and w*l*l over each column's weights w and codes l. Returns
    where there is such a fit: not where all codes are the same.
    """
    divisor = sum_w * sum_l2
    cross = np.square(sum_l)
    divisor -= cross
    np.multiply(sum_w, sum_xl, out=scale)
    scale -= np.multiply(sum_x, sum_l, out=cross)
    scale /= divisor
    np.multiply(sum_l2, sum_x, out=minimum)
    minimum -= np.multiply(sum_l, sum_xl, out=cross)
    minimum /= divisor
    (above,) = np.nonzero(minimum > 0)
    if above.size:
        minimum[above] = 0
        scale[above] = sum_xl[above] / sum_l2[above]
    positive: NDArray[np.bool_] = divisor > 0
    return positive
