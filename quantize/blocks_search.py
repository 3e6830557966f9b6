"""The searches for a block's scale: ggml's loops over one block, run over many columns at once.

x and weights are float32 [block_len, n], a column a block (see blocks_layout, also for the
`c_arithmetic` that callers are in). What ggml keeps of
the best step, the codes, is not kept here: they follow from the step's inverse scale, so each
search remembers that and computes the codes once, at its end.
Source of every formula: make_qx_quants and make_qkx2_quants in llama.cpp's ggml/src/ggml-quants.c.
"""

from __future__ import annotations

import numpy as np

from .blocks_layout import F32, first_extreme

# ggml's GROUP_MAX_EPS: a block whose magnitudes are all below it is a block of zeros.
_EPSILON = np.float32(1e-15)


def search_symmetric(x: F32, nmax: int, weights: F32 | None = None) -> tuple[F32, F32]:
    """Scales for x = scale * q with q in -nmax..nmax-1, by 19 tries around the largest magnitude.

    Returns (scale [n], q + nmax [block_len, n], whole numbers). A block of zeros has the scale 0
    and, as in ggml, the codes 0. Without `weights` every error is weighted by x squared.
    """
    w = x * x if weights is None else weights
    wx = w * x
    extreme = first_extreme(x)
    dead = np.abs(extreme) < _EPSILON
    extreme[dead] = 1
    codes, product = np.empty((2, *x.shape), np.float32)
    lx, l2, gain, bound = np.empty((4, x.shape[1]), np.float32)

    def correlate(inverse: F32) -> None:
        """The sums of w*x*q and of w*q*q for the codes that this inverse scale gives."""
        _symmetric_codes(x, inverse, nmax, codes)
        np.multiply(wx, codes, out=product)
        np.add.reduce(product, axis=0, out=lx, initial=np.float32(0))  # never -0, as in C
        np.multiply(w, codes, out=product)
        np.multiply(product, codes, out=product)
        np.add.reduce(product, axis=0, out=l2)

    inverse = np.float32(-nmax) / extreme
    correlate(inverse)
    scale = np.where(l2 != 0, lx / l2, np.float32(0))
    best = scale * lx
    tried = np.empty_like(extreme)
    for step in (*range(-9, 0), *range(1, 10)):
        np.divide(-(nmax + np.float32(0.1) * np.float32(step)), extreme, out=tried)
        correlate(tried)
        np.multiply(lx, lx, out=gain)
        np.multiply(best, l2, out=bound)
        (better,) = (gain > bound).nonzero()
        better = better[l2[better] > 0]
        inverse[better] = tried[better]
        scale[better] = lx[better] / l2[better]
        best[better] = scale[better] * lx[better]
    _symmetric_codes(x, inverse, nmax, codes)
    codes += nmax
    scale[dead] = 0
    codes[:, dead] = 0
    return scale, codes


def _symmetric_codes(x: F32, inverse: F32, nmax: int, codes: F32) -> None:
    np.multiply(x, inverse, out=codes)
    np.rint(codes, out=codes)
    codes.clip(np.float32(-nmax), np.float32(nmax - 1), out=codes)
