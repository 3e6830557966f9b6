"""Q6_K: super-blocks of 256 weights in blocks of 16, each with a signed scale, ggml's bytes.

Source of every formula: quantize_row_q6_K_ref (plain) and _impl (with an importance matrix) in
llama.cpp's ggml/src/ggml-quants.c.

The functions convert whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, cols / 256 * 210]. Weights must be finite. `importance` is float32 [cols], not negative.
"""

from __future__ import annotations

import numpy as np

from .columns import F32, U8, as_rows, c_arithmetic, first_extreme, from_half, half, scaled, words
from .search import search_symmetric
from .subblocks import round_to_codes, sub_block_chunks

_LEN = 256
_EPSILON = np.float32(1e-15)
_CHUNK = 512


# Q6_K, 210 bytes.   x = d * scale[j/16] * (q[j] - 32)
#
#     0                        128            192            208 210
#     +------------------------+--------------+--------------+---+
#     |  ql, the low 4 bits    | qh, the high | 16 scales    | d |
#     |  of each q             | 2 bits       |              |   |
#     +------------------------+--------------+--------------+---+
#                                               int8           F16
#
# Each half of the super-block, 128 weights, takes 64 bytes of ql and 32 of qh. For l = 0..31:
#     ql[l]    = q[l]    low | q[l+64] low << 4       qh[l] = q[l]    high      | q[l+32] high << 2
#     ql[l+32] = q[l+32] low | q[l+96] low << 4             | q[l+64] high << 4 | q[l+96] high << 6


def quantize_q6_k(rows: F32, importance: F32 | None = None) -> U8:
    """Blocks of 16; scales are searched in float32, then rounded to int8 under one F16."""
    out = np.empty((rows.size // _LEN, 210), np.uint8)
    with c_arithmetic():
        for blocks, x, weights in sub_block_chunks(rows, 16, _CHUNK, importance):
            w = None if weights is None else weights.reshape(16, -1)
            scale, codes = search_symmetric(x.reshape(16, -1), 32, w)
            scales, q = scale.reshape(16, -1), codes.reshape(x.shape)
            # NaN from sums that overflowed: no comparison in C selects it, and its code is 0.
            scales[np.isnan(scales)] = 0
            largest = first_extreme(scales)
            dead = np.abs(largest) < _EPSILON
            largest[dead] = 1
            inverse = np.float32(-128) / largest
            d = half(np.float32(1) / inverse)
            scales *= inverse
            np.minimum(np.rint(scales, out=scales), np.float32(127), out=scales)
            _requantize(x, from_half(d).T * scales, q)
            q[..., dead] = 0
            scales[:, dead] = 0
            d[dead] = 0
            out[blocks, 192:208].view(np.int8)[...] = scales.T
            out[blocks, 208:] = d
            _pack_q6(q, out[blocks])
    return as_rows(out, rows, _LEN)


def _requantize(x: F32, d: F32, q: F32) -> None:
    """Codes for the rounded scales; where one became 0, those of the search stay.

    x and q are [16, 16, n]: weight within the block, block, super-block.
    """
    again = x / d
    (dead,) = np.nonzero(d.reshape(-1) == 0)
    if dead.size:
        again.reshape(16, -1)[:, dead] = q.reshape(16, -1)[:, dead] - np.float32(32)
    round_to_codes(again, -32, 31)
    np.add(again, np.float32(32), out=q)


def _pack_q6(q: F32, out: U8) -> None:
    codes = q.swapaxes(0, 1).astype(np.uint8).reshape(2, 4, 32, -1)
    low, high = codes & 15, codes >> 4
    ql = np.concatenate([low[:, 0] | low[:, 2] << 4, low[:, 1] | low[:, 3] << 4], axis=1)
    qh = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    out[:, :128].view("<u4")[...] = words(ql.reshape(128, -1)).T
    out[:, 128:192].view("<u4")[...] = words(qh.reshape(64, -1)).T


def dequantize_q6_k(blocks: U8) -> F32:
    """x = d * scale * (q - 32)."""
    table = blocks.reshape(-1, 210)
    ql = table[:, :128].reshape(-1, 2, 2, 32)
    qh = table[:, 128:192].reshape(-1, 2, 1, 32)
    low = np.concatenate([ql & 15, ql >> 4], axis=2)
    high = qh >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & 3
    q = (low | high << 4).view(np.int8) - np.int8(32)
    scales = scaled(table[:, 192:208].view(np.int8), from_half(table[:, 208:]))
    return as_rows(scaled(q.reshape(-1, 16, 16), scales[..., None]), blocks, 210)
