"""The search for a scale and a minimum, x = scale * q + minimum, over many blocks at once.

Source of the formulas: make_qkx2_quants and make_qkx3_quants in llama.cpp's ggml/src/ggml-quants.c,
which are one search: they differ where their inputs never do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import F32, add_rows, first_minimum
from .subblocks import ROUNDS_EXACTLY, round_to_codes


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
    lowest = first_minimum(x)
    low = np.where(lowest > 0, np.float32(0), lowest)
    high: F32 = np.maximum.reduce(x, axis=0)
    flat = np.flatnonzero(high == low)
    high[flat] = low[flat] == 0  # any span but none; what is found is thrown away below

    trial = _Trial(x, w, lowest, grid)
    levels = np.float32(grid.levels)
    np.divide(levels, high - low, out=trial.inverse)
    np.divide(np.float32(1), trial.inverse, out=trial.scale)
    trial.base[...] = trial.minimum[...] = low
    trial.code()
    trial.measure()
    best = trial.found.copy()
    best_minimum, best_error = best[1], best[4]

    for i in range(grid.tries + 1):
        trial.base[...] = best_minimum
        np.subtract(high, best_minimum, out=trial.inverse)
        target = np.float32(grid.first) + np.float32(grid.step) * np.float32(i) + levels
        np.divide(target, trial.inverse, out=trial.inverse)
        trial.code()
        fits = trial.fit()
        trial.measure()
        better = trial.error < best_error
        better &= fits
        for kept, tried in zip(best, trial.found, strict=True):
            np.putmask(kept, better, tried)

    best[:, flat] = 0
    best_minimum[flat] = low[flat]
    return Affine(*best[:4])


class _Trial:
    """One try at all columns: `inverse` and `base` are set from outside, the rest follows."""

    def __init__(self, x: F32, w: F32, lowest: F32, grid: Grid) -> None:
        n = x.shape[1]
        self.x, self.w, self.lowest, self.grid = x, w, lowest, grid
        self.found = np.empty((5, n), np.float32)
        self.scale, self.minimum, self.inverse, self.base, self.error = self.found
        self._codes, self._weighted, self._product = np.empty((3, *x.shape), np.float32)
        self._sum_w = add_rows(w)
        # Of w*x, and for the codes l of w*l, w*l*x and w*l*l.
        self._sums = np.empty((4, n), np.float32)
        np.multiply(w, x, out=self._product)
        # C starts this sum with its first term and the others at 0: of terms that are all -0 this
        # one makes -0 and the others 0, which shows in the sign of a minimum of 0.
        add_rows(self._product, out=self._sums[0], initial=np.float32(-0.0))
        self._fitted, self._cross = np.empty((2, 3, n), np.float32)
        self._farthest = np.empty(n, np.float32)

    def code(self) -> None:
        """Set the codes: `affine_codes`, and the fast way where no product is too large for it."""
        farthest, codes = self._farthest, self._codes
        np.subtract(self.lowest, self.base, out=farthest)
        np.multiply(farthest, self.inverse, out=farthest)
        np.abs(farthest, out=farthest)
        if not farthest.max(initial=0) <= ROUNDS_EXACTLY:  # NaN is not
            affine_codes(self.x, self.inverse, self.base, self.grid.levels, codes)
            return
        np.subtract(self.x, self.base, out=codes)
        np.multiply(codes, self.inverse, out=codes)
        np.rint(codes, out=codes)
        codes.clip(np.float32(0), np.float32(self.grid.levels), out=codes)

    def fit(self) -> NDArray[np.bool_]:
        """Set scale and minimum, 0 or less, of least weighted squared error for the codes.

        Returns where there is such a fit: not where all codes are the same.
        """
        sum_x, sum_l, sum_xl, sum_l2 = self._sums
        weighted, product = self._weighted, self._product
        np.multiply(self.w, self._codes, out=weighted)
        add_rows(weighted, out=sum_l)
        np.multiply(weighted, self._codes, out=product)
        add_rows(product, out=sum_l2)
        np.multiply(weighted, self.x, out=weighted)
        add_rows(weighted, out=sum_xl, initial=np.float32(0))

        # Three differences of products, computed at once as they cost more in calls than in sums.
        fitted, cross = self._fitted, self._cross
        scale_times, divisor, minimum_times = fitted
        np.multiply(self._sums[2:], self._sum_w, out=fitted[:2])
        np.multiply(sum_l2, sum_x, out=minimum_times)
        np.multiply(self._sums[:3], sum_l, out=cross)
        np.subtract(fitted, cross, out=fitted)
        np.divide(scale_times, divisor, out=self.scale)
        np.divide(minimum_times, divisor, out=self.minimum)
        above = self.minimum > 0
        if above.any():
            np.putmask(self.minimum, above, np.float32(0))
            np.putmask(self.scale, above, sum_xl / sum_l2)
        fits: NDArray[np.bool_] = divisor > 0
        return fits

    def measure(self) -> None:
        """Set the error of the codes under scale and minimum. Destroys the codes."""
        errors = self._codes
        np.multiply(errors, self.scale, out=errors)
        np.add(errors, self.minimum, out=errors)
        np.subtract(errors, self.x, out=errors)
        (np.abs if self.grid.absolute else np.square)(errors, out=errors)
        np.multiply(errors, self.w, out=errors)
        add_rows(errors, out=self.error)
