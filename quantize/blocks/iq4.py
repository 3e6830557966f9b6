"""IQ4_NL and IQ4_XS: codes of 4 bits into a table of 16 unevenly spaced values, ggml's bytes.

Source of every formula: quantize_row_iq4_nl_impl in llama.cpp's ggml/src/ggml-quants.c.

Each pair of functions converts whole rows: float32 [rows, cols] with cols a multiple of the
(super-)block, and uint8 [rows, row_bytes]. Weights must be finite. `importance` is float32 [cols],
not negative; without it every error is weighted by x squared.
"""

from __future__ import annotations

import numpy as np

from .columns import (
    F32,
    U8,
    add_rows,
    as_rows,
    c_arithmetic,
    first_extreme,
    from_half,
    half,
    reciprocal,
)
from .subblocks import SUPER, round_to_codes, sub_block_chunks, sum_of_squares, weigh

VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
_EPSILON = np.float32(1e-15)
_LEN = 32
_TRIES = range(-7, 8)

# The nearest value is looked up by floor(2 * x): the borders between values are multiples of 1/2,
# and x on a border goes up. Negative indices count from the end, as everywhere in numpy.
_REACH = 300
_STEPS = np.fft.ifftshift(np.arange(-2 * _REACH, 2 * _REACH))
_CODES = np.searchsorted(VALUES[1:] + VALUES[:-1], _STEPS, side="right").astype(np.uint8)
_NEAREST = VALUES[_CODES]


def _search(x: F32, w: F32) -> F32:
    """The scale of each column of x [32, n] with weights likewise; 0 for a block of zeros.

    The largest weight is put on -127 first, then on -134..-120; each try is judged by the scale
    that then fits best.
    """
    extreme = first_extreme(x)
    dead = np.abs(extreme) < _EPSILON
    extreme[dead] = 1
    wq, product, nearest = np.empty((3, *x.shape), np.float32)
    steps = np.empty(x.shape, np.intp)
    sum_qx, sum_q2 = np.empty((2, x.shape[1]), np.float32)

    def correlate(inverse: F32) -> None:
        """Set the sums of w*q*x and w*q*q for the values nearest to x * inverse."""
        np.multiply(x, inverse + inverse, out=product)
        np.floor(product, out=product)
        np.copyto(steps, product, casting="unsafe")
        np.take(_NEAREST, steps, out=nearest, mode="wrap")
        np.multiply(w, nearest, out=wq)
        np.multiply(wq, x, out=product)
        add_rows(product, out=sum_qx, initial=np.float32(0))  # never -0, as in C
        add_rows(np.multiply(wq, nearest, out=product), out=sum_q2)

    correlate(np.float32(1) / (extreme / -VALUES[0]))
    scale = np.divide(sum_qx, sum_q2, out=np.zeros_like(sum_qx), where=sum_q2 > 0)
    best = scale * sum_qx
    for i in _TRIES:
        correlate((np.float32(i) + VALUES[0]) / extreme)
        better = (sum_q2 > 0) & (sum_qx * sum_qx > best * sum_q2)
        np.divide(sum_qx, sum_q2, out=scale, where=better)
        np.multiply(scale, sum_qx, out=best, where=better)
    scale[dead] = 0
    return scale


def _codes(x: F32, inverse: F32) -> U8:
    """Codes of the values nearest to x * inverse; NaN gets the last, as in ggml's bisection."""
    steps = x * inverse
    np.fmin(steps, np.float32(_REACH - 1), out=steps)
    np.maximum(steps, np.float32(-_REACH + 1), out=steps)
    steps += steps
    np.floor(steps, out=steps)
    return np.take(_CODES, steps.astype(np.intp), mode="wrap")


def _weights(x: F32, rows: F32, importance: F32 | None) -> F32:
    if importance is None:
        return x * x
    sigma2 = sum_of_squares(rows) * np.float32(2 / rows.shape[1])
    return weigh(x, importance, sigma2)


# IQ4_NL, 18 bytes.   x = d * value[q]          IQ4_XS, 136 bytes.   x = d * (s[j/32]-32) * value[q]
#
#     0   2                18                   0   2        4        8                  136
#     +---+----------------+                    +---+--------+--------+--------------------+
#     | d | 16 x (q+16, q) |                    | d | s >> 4 | s & 15 | 8 x 16 bytes of    |
#     +---+----------------+                    |   |        |        | (q+16, q)          |
#     F16   nibbles of q[j+16] (high) and       +---+--------+--------+--------------------+
#           q[j] (low), j = 0..15               F16  8 x 2    8 x 4 bits, the first of each
#                                                    bits     in the low bits


def quantize_iq4_nl(rows: F32, importance: F32 | None = None) -> U8:
    """The best of 16 scales for each block of 32."""
    out = np.empty((rows.size // _LEN, 18), np.uint8)
    table = rows.reshape(-1, _LEN)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, _LEN, 1024, importance, size=_LEN):
            columns = x.reshape(_LEN, -1)
            scale = _search(columns, _weights(x, table[blocks], weight).reshape(_LEN, -1))
            codes = _codes(columns, reciprocal(scale))
            out[blocks, :2] = half(scale)
            out[blocks, 2:] = (codes[:16] | codes[16:] << 4).T
    return as_rows(out, rows, _LEN)


def quantize_iq4_xs(rows: F32, importance: F32 | None = None) -> U8:
    """As IQ4_NL, with the scales of 8 blocks rounded to 6 bits under one F16."""
    out = np.empty((rows.size // SUPER, 136), np.uint8)
    table = rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, _LEN, 128, importance):
            w = _weights(x, table[blocks], weight)
            scales = _search(x.reshape(_LEN, -1), w.reshape(_LEN, -1)).reshape(8, -1)
            scales[np.isnan(scales)] = 0  # sums that overflowed: as a code it is 0
            d = first_extreme(scales) / np.float32(-32)
            scales *= reciprocal(d)
            round_to_codes(scales, -32, 31)
            codes = _codes(x, reciprocal(d * scales))
            s = (scales + np.float32(32)).astype(np.uint8)
            high: U8 = s >> np.uint8(4)
            out[blocks, :2] = half(d)
            out[blocks, 2:4] = _pack_pairs(high.reshape(2, 4, -1))
            out[blocks, 4:8] = (s[0::2] & 15 | s[1::2] << 4).T
            nibbles = codes[:16] | codes[16:] << 4
            out[blocks, 8:].reshape(-1, 8, 16)[...] = nibbles.transpose(2, 1, 0)
    return as_rows(out, rows, SUPER)


def _pack_pairs(codes: U8) -> U8:
    """Codes of 2 bits, uint8 [bytes, 4, n], to uint8 [n, bytes], the first in the low bits."""
    shifted: U8 = codes << np.array([0, 2, 4, 6], np.uint8).reshape(4, 1)
    packed: U8 = np.bitwise_or.reduce(shifted, axis=1)
    return packed.T


def dequantize_iq4_nl(blocks: U8) -> F32:
    """x = d * value[q]."""
    table = blocks.reshape(-1, 18)
    weights = from_half(table[:, :2]) * _values(table[:, 2:])
    return as_rows(weights, blocks, 18)


def dequantize_iq4_xs(blocks: U8) -> F32:
    """x = d * (scale - 32) * value[q]."""
    table = blocks.reshape(-1, 136)
    high = table[:, 2:4, None] >> np.array([0, 2, 4, 6], np.uint8) & np.uint8(3)
    low = table[:, 4:8, None] >> np.array([0, 4], np.uint8) & np.uint8(15)
    scales = (low.reshape(-1, 8) | high.reshape(-1, 8) << 4).view(np.int8) - np.int8(32)
    with c_arithmetic():
        d = from_half(table[:, :2]) * scales
        weights = d[..., None] * _values(table[:, 8:].reshape(-1, 8, 16))
    return as_rows(weights, blocks, 136)


def _values(nibbles: U8) -> F32:
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1)
    return np.take(VALUES, codes)
