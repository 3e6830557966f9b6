"""Searches that start from one scale, then change single codes while the fit improves.

Source of the formulas: make_q3_quants and make_qp_quants in llama.cpp's ggml/src/ggml-quants.c.
Each change depends on the codes changed before it, so the loop over a block remains a loop here. It
runs over many blocks at once, and drops those in which a whole round changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .columns import F32, add_rows, first_extreme
from .subblocks import round_as_ggml, round_to_codes

_EPSILON = np.float32(1e-15)
_ROUNDS = 5
SEGMENT = 16384
"""Blocks per pass of the first round: one row of each of its arrays fits in the level-2 cache."""
_UINT8 = np.float32(256)
_ANY = -(1 << 22)
"""No lower bound: ggml's nearest_int gives no less."""


def search_signed(x: F32, nmax: int, scratch: F32) -> tuple[F32, F32]:
    """Scales for x = scale * q, q in -nmax..nmax-1, errors weighted by x squared.

    x is float32 [block_len, n]. Returns (scale [n], q [block_len, n]); a block of zeros has the
    scale 0 and, as in ggml, the codes -nmax. `scratch`, float32 of x.size and 4 * block_len *
    SEGMENT more, is reused memory, and holds q: new pages each time would double the cost.
    """
    codes = scratch[: x.size].reshape(x.shape)
    extreme = first_extreme(x)
    dead = np.abs(extreme) < _EPSILON
    extreme[dead] = 1
    np.multiply(x, np.float32(-nmax) / extreme, out=codes)
    np.rint(codes, out=codes)
    np.clip(codes, np.float32(-nmax), np.float32(nmax - 1), out=codes)
    sum_lx, sum_l2 = _refine(x, None, codes, -nmax, nmax - 1, scratch[x.size :])
    scale = np.divide(sum_lx, sum_l2, out=np.zeros_like(sum_lx), where=sum_l2 > 0)
    if dead.any():
        scale[dead] = 0
        codes[:, dead] = -nmax
    return scale, codes


def search_unsigned(x: F32, w: F32, nmax: int) -> tuple[F32, F32]:
    """Scales for x = scale * q, q in 0..nmax, errors weighted by w.

    x and w are float32 [block_len, n]. Returns (scale [n], q [block_len, n]), after 9 tries around
    the scale that maps the largest x to nmax, and changes of single codes. x should not be
    negative; for one that is, q is what ggml's uint8_t makes of the negative code, up to 255.
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
        if i == 0:
            codes %= _UINT8
        error = x - np.float32(1) / tried * codes
        mse = add_rows(w * error * error)
        better = mse < best if i else np.True_
        np.copyto(best, mse, where=better)
        np.copyto(inverse, tried, where=better)
    codes = x * inverse
    round_as_ggml(codes)
    np.minimum(codes, np.float32(nmax), out=codes)
    sum_lx, sum_l2 = _refine(x, w, codes, 0, nmax, np.empty(4 * x.size, np.float32))
    scale = np.divide(sum_lx, sum_l2, out=np.zeros_like(sum_lx), where=sum_l2 > 0)
    scale[dead] = 0
    codes[:, dead] = 0
    return scale, codes


def _refine(x: F32, w: F32 | None, codes: F32, low: int, high: int, work: F32) -> F32:
    """Change single codes in low..high, in place, while (sum w*x*l)^2 / (sum w*l*l) grows.

    Without w the weights are x squared. `work` is memory for 4 * x.size numbers, or for those of
    SEGMENT blocks. Returns the two sums, [2, n], for the codes at the end.
    """
    sums = np.empty((2, x.shape[1]), np.float32)
    zero = np.float32(0)
    found = [np.empty(0, np.intp)]
    for start in range(0, x.shape[1], SEGMENT):
        part = slice(start, start + SEGMENT)
        near, near_codes = x[:, part], codes[:, part]
        squares, *spare = work[: 4 * near.size].reshape(4, *near.shape)
        near_w = np.square(near, out=squares) if w is None else w[:, part]
        fit = _Fit(near, near_w, near_codes, sums[:, part], spare)
        add_rows(fit.lx, out=fit.sum_lx, initial=zero)
        add_rows(fit.l2, out=fit.sum_l2, initial=zero)
        if low == 0 and near_codes.min() < 0:
            # From here on ggml reads the codes from uint8_t, but its sums are those from before.
            near_codes %= _UINT8
            fit = _Fit(near, near_w, near_codes, sums[:, part], spare)
        found.append(start + fit.improve(low, high))
    # The few blocks that changed continue together: their rounds cost mostly call overhead.
    changed = np.concatenate(found)
    for _ in range(1, _ROUNDS):
        if not changed.size:
            break
        near, near_codes = x.take(changed, axis=1), codes.take(changed, axis=1)
        near_w = near * near if w is None else w.take(changed, axis=1)
        near_sums = sums.take(changed, axis=1)
        spare = list(np.empty((3, *near.shape), np.float32))
        again = _Fit(near, near_w, near_codes, near_sums, spare).improve(low, high)
        codes[:, changed], sums[:, changed] = near_codes, near_sums
        changed = changed[again]
    return sums


class _Fit:
    """Blocks, their codes, and the sums [2, n] that measure their fit."""

    def __init__(self, x: F32, w: F32, codes: F32, sums: F32, work: Sequence[F32]) -> None:
        self.x, self.w, self.codes = x, w, codes
        self.sum_lx, self.sum_l2 = sums
        # w * x, and what each code adds to the sums.
        self.wx, self.lx, self.l2 = work
        np.multiply(w, x, out=self.wx)
        np.multiply(self.wx, codes, out=self.lx)
        np.multiply(w, codes, out=self.l2)
        np.multiply(self.l2, codes, out=self.l2)

    def improve(self, low: int, high: int) -> NDArray[np.intp]:
        """One round over all codes of every block; returns which blocks changed."""
        changed = np.zeros(self.x.shape[1], np.bool_)
        lx, l2, best = np.empty((3, self.x.shape[1]), np.float32)
        for i, code in enumerate(self.codes):
            # The sums without this code, and the best code given the others.
            np.subtract(self.sum_lx, self.lx[i], out=lx)
            np.subtract(self.sum_l2, self.l2[i], out=l2)
            np.multiply(self.x[i], l2, out=best)
            np.divide(best, lx, out=best)
            round_to_codes(best, low or _ANY, high)
            (other,) = (best != code).nonzero()
            if other.size:
                rest = best.take(other), lx.take(other), l2.take(other)
                changed[self._move(i, other, *rest, unsigned=low == 0)] = True
        return np.flatnonzero(changed)

    def _move(
        self, i: int, blocks: NDArray[np.intp], code: F32, lx: F32, l2: F32, unsigned: bool
    ) -> NDArray[np.intp]:
        """Set code i of these blocks to `code` where that improves the fit.

        lx and l2 are the sums without code i. Returns the blocks that changed.
        """
        better = (lx > 0) & (l2 > 0) if unsigned else lx > 0
        old_lx, old_l2 = self.sum_lx.take(blocks), self.sum_l2.take(blocks)
        own_lx = self.wx[i].take(blocks) * code
        own_l2 = self.w[i].take(blocks) * code * code
        lx += own_lx
        l2 += own_l2
        better &= (l2 > 0) & (lx * lx * old_l2 > old_lx * old_lx * l2)
        (chosen,) = np.nonzero(better)
        moved = blocks[chosen]
        self.codes[i][moved] = code[chosen]
        self.lx[i][moved], self.l2[i][moved] = own_lx[chosen], own_l2[chosen]
        if unsigned and (negative := chosen[code[chosen] < 0]).size:
            self._wrap(i, blocks[negative], code[negative])
        self.sum_lx[moved], self.sum_l2[moved] = lx[chosen], l2[chosen]
        return moved

    def _wrap(self, i: int, blocks: NDArray[np.intp], code: F32) -> None:
        """Set code i of these blocks to the negative `code` cast to uint8_t, as in ggml."""
        code = code % _UINT8
        self.codes[i][blocks] = code
        self.lx[i][blocks] = self.wx[i].take(blocks) * code
        self.l2[i][blocks] = self.w[i].take(blocks) * code * code
