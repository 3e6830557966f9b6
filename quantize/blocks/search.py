"""Search for the scale of a block: ggml's loop over one block, run over many blocks at once.

x and weights are float32 [block_len, n], one column per block (see columns.py, also for
`c_arithmetic`, in which callers run this). ggml stores the codes of the best try; here only its
inverse scale is stored, from which the codes are computed at the end.
Source of every formula: make_qx_quants in llama.cpp's ggml/src/ggml-quants.c.
"""

from __future__ import annotations

import numpy as np

from .columns import F32, add_rows, at_once, first_extreme

# ggml's GROUP_MAX_EPS: a block whose magnitudes are all below it is a block of zeros.
_EPSILON = np.float32(1e-15)
_STEPS = np.array([0, *range(-9, 0), *range(1, 10)], np.float32)
# Weights processed at once: five arrays of this size fit in the level-2 cache.
_TILE = 1 << 15


def search_symmetric(x: F32, nmax: int, weights: F32 | None = None) -> tuple[F32, F32]:
    """Scales for x = scale * q with q in -nmax..nmax-1, by 19 tries around the largest magnitude.

    Returns (scale [n], q + nmax [block_len, n], whole numbers). A block of zeros has the scale 0
    and, as in ggml, the codes 0. Without `weights` every error is weighted by x squared.
    """
    extreme = first_extreme(x)
    dead = np.abs(extreme) < _EPSILON
    extreme[dead] = 1
    reaches = np.float32(nmax) + np.float32(0.1) * _STEPS
    inverses = -reaches[:, None] / extreme
    sum_lx, sum_l2 = _correlations(x, weights, inverses, reaches, nmax)

    # A try's scale is sum_lx / sum_l2; it reduces the squared error by scale * sum_lx.
    scales = sum_lx / sum_l2
    scales[0, sum_l2[0] == 0] = 0
    gains = scales * sum_lx
    np.square(sum_lx, out=sum_lx)
    best, chosen = gains[0], np.zeros(len(extreme), np.intp)
    for i in range(1, len(_STEPS)):
        better = sum_lx[i] > best * sum_l2[i]
        better &= sum_l2[i] > 0
        np.putmask(best, better, gains[i])
        np.putmask(chosen, better, i)
    winner = chosen, np.arange(len(extreme))
    scale, codes = scales[winner], np.empty_like(x)
    _round(x, inverses[winner], codes)
    codes.clip(-nmax, nmax - 1, out=codes)
    codes += nmax
    scale[dead] = 0
    codes[:, dead] = 0
    return scale, codes


def _correlations(x: F32, weights: F32 | None, inverses: F32, reaches: F32, nmax: int) -> F32:
    """The sums of w*x*q and of w*q*q, [2, tries, n], for the codes that each inverse scale gives.

    `reaches` [tries] is the largest |x| times |inverse scale| of each try.
    """
    length, n = x.shape
    sums = np.empty((2, *inverses.shape), np.float32)
    low, high, zero = np.array([-nmax, nmax - 1, 0], np.float32)
    width = at_once(_TILE // length)
    memory = np.empty((5, length, min(width, n)), np.float32)
    for start in range(0, n, width):
        part = slice(start, min(start + width, n))
        near, w, wx, codes, product = memory[..., : part.stop - start]
        np.copyto(near, x[:, part])
        np.multiply(near, near, out=w) if weights is None else np.copyto(w, weights[:, part])
        np.multiply(w, near, out=wx)
        for reach, inverse, lx, l2 in zip(
            reaches, inverses[:, part], *sums[..., part], strict=True
        ):
            _round(near, inverse, codes)
            if reach > nmax - 0.55:  # else no code can be too large
                codes.clip(low, high, out=codes)
            np.multiply(wx, codes, out=product)
            add_rows(product, out=lx, initial=zero)  # never -0, as in C
            np.multiply(w, codes, out=product)
            np.multiply(product, codes, out=product)
            add_rows(product, out=l2)
    return sums


def _round(x: F32, inverse: F32, codes: F32) -> None:
    np.multiply(x, inverse, out=codes)
    np.rint(codes, out=codes)
