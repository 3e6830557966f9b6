"""Searches that start from one scale and then move one code after another while the fit improves.

Source of the formulas: make_q3_quants and make_qp_quants in llama.cpp's ggml/src/ggml-quants.c.
Each code is judged with what the codes before it have become, so the loop over a block stays a loop
here; it runs over many blocks at once, and drops those where a whole round changed nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .blocks_layout import F32, first_extreme
from .blocks_subblocks import round_as_ggml, round_to_codes

_EPSILON = np.float32(1e-15)
_ROUNDS = 5
_SURELY_NEAREST = np.float32(0.499)


def search_signed(x: F32, nmax: int) -> tuple[F32, F32]:
    """Scales for x = scale * q, q in -nmax..nmax-1, errors weighted by x squared.

    x is float32 [block_len, n]. Returns (scale [n], q [block_len, n]); a block of zeros has the
    scale 0 and, as in ggml, the codes -nmax.
    """
    extreme = first_extreme(x)
    dead = np.abs(extreme) < _EPSILON
    extreme[dead] = 1
    codes = x * (np.float32(-nmax) / extreme)
    round_to_codes(codes, -nmax, nmax - 1)
    weights = x * x
    sum_lx, sum_l2 = _refine(x, weights, codes, -nmax, nmax - 1)
    scale = np.divide(sum_lx, sum_l2, out=np.zeros_like(sum_lx), where=sum_l2 > 0)
    if dead.any():
        scale[dead] = 0
        codes[:, dead] = -nmax
    return scale, codes


def search_unsigned(x: F32, w: F32, nmax: int) -> tuple[F32, F32]:
    """Scales for x = scale * q, q in 0..nmax, of x that are not negative, errors weighted by w.

    x and w are float32 [block_len, n]. Returns (scale [n], q [block_len, n]), after 9 tries around
    the scale that puts the largest x on nmax, and the moves of single codes.
    """
    largest: F32 = np.fmax.reduce(x, axis=0, initial=np.float32(0))
    dead = largest < _EPSILON
    largest[dead] = 1
    inverse = np.float32(nmax) / largest
    best = np.zeros_like(largest)
    for i in (0, -4, -3, -2, -1, 1, 2, 3, 4):
        tried = (np.float32(0.1) * np.float32(i) + np.float32(nmax)) / largest
        codes = x * tried
        round_as_ggml(codes)
        np.minimum(codes, np.float32(nmax), out=codes)
        error = x - np.float32(1) / tried * codes
        mse = np.add.reduce(w * error * error, axis=0)
        better = mse < best if i else np.True_
        np.copyto(best, mse, where=better)
        np.copyto(inverse, tried, where=better)
    codes = x * inverse
    round_as_ggml(codes)
    np.minimum(codes, np.float32(nmax), out=codes)
    sum_lx, sum_l2 = _refine(x, w, codes, 0, nmax)
    scale = np.divide(sum_lx, sum_l2, out=np.zeros_like(sum_lx), where=sum_l2 > 0)
    scale[dead] = 0
    codes[:, dead] = 0
    return scale, codes


def _refine(x: F32, w: F32, codes: F32, low: int, high: int) -> tuple[F32, F32]:
    """Move single codes within low..high, in place, while (sum w*x*l)^2 / (sum w*l*l) grows.

    Returns the two sums [n] for the codes at the end.
    """
    fit = _Fit(x, w, codes)
    sums = fit.sum_lx, fit.sum_l2
    changed = fit.improve(low, high)
    for _ in range(1, _ROUNDS):
        if not changed.size:
            break
        fit = _Fit(
            x[:, changed], w[:, changed], codes[:, changed], sums[0][changed], sums[1][changed]
        )
        again = fit.improve(low, high)
        codes[:, changed], sums[0][changed], sums[1][changed] = fit.codes, fit.sum_lx, fit.sum_l2
        changed = changed[again]
    return sums


class _Fit:
    """Blocks, their codes, and the sums by which the codes are judged."""

    def __init__(
        self, x: F32, w: F32, codes: F32, sum_lx: F32 | None = None, sum_l2: F32 | None = None
    ) -> None:
        self.x, self.w, self.codes = x, w, codes
        self.wx = w * x
        # What each code adds to the sums.
        self.lx = self.wx * codes
        self.l2 = w * codes
        self.l2 *= codes
        zero = np.float32(0)
        self.sum_lx: F32 = (
            np.add.reduce(self.lx, axis=0, initial=zero) if sum_lx is None else sum_lx
        )
        self.sum_l2: F32 = (
            np.add.reduce(self.l2, axis=0, initial=zero) if sum_l2 is None else sum_l2
        )

    def improve(self, low: int, high: int) -> NDArray[np.intp]:
        """One round over all codes of every block; returns which blocks changed."""
        changed = np.zeros(self.x.shape[1], np.bool_)
        lx, l2, ideal, distance = np.empty((4, self.x.shape[1]), np.float32)
        for i, code in enumerate(self.codes):
            # The sums without this code, and the code that is best beside them.
            np.subtract(self.sum_lx, self.lx[i], out=lx)
            np.subtract(self.sum_l2, self.l2[i], out=l2)
            np.multiply(self.x[i], l2, out=ideal)
            np.divide(ideal, lx, out=ideal)
            # Few codes are not yet the nearest to it; NaN is among them.
            np.subtract(ideal, code, out=distance)
            np.abs(distance, out=distance)
            (movable,) = np.nonzero(~(distance < _SURELY_NEAREST))
            if movable.size:
                some = movable
                moved = self._move(i, some, lx[some], l2[some], ideal[some], low, high)
                changed[moved] = True
        return np.flatnonzero(changed)

    def _move(
        self, i: int, blocks: NDArray[np.intp], lx: F32, l2: F32, code: F32, low: int, high: int
    ) -> NDArray[np.intp]:
        """Give code i of these blocks the value `code`, rounded, where the fit improves.

        `lx` and `l2` are the sums without code i. Returns the blocks that changed.
        """
        better = (lx > 0) & (l2 > 0) if low == 0 else lx > 0
        round_to_codes(code, low, high)
        better &= code != self.codes[i, blocks]
        own_lx = self.wx[i, blocks] * code
        own_l2 = self.w[i, blocks] * code * code
        lx += own_lx
        l2 += own_l2
        old_lx, old_l2 = self.sum_lx[blocks], self.sum_l2[blocks]
        better &= (l2 > 0) & (lx * lx * old_l2 > old_lx * old_lx * l2)
        (chosen,) = np.nonzero(better)
        moved = blocks[chosen]
        self.codes[i, moved] = code[chosen]
        self.lx[i, moved], self.l2[i, moved] = own_lx[chosen], own_l2[chosen]
        self.sum_lx[moved], self.sum_l2[moved] = lx[chosen], l2[chosen]
        return moved
