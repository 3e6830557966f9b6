"""Q3_K: super-blocks of 256 weights in blocks of 16, each with a signed scale, ggml's bytes.

Source of every formula: quantize_row_q3_K_ref (plain) and _impl (with an importance matrix) in
llama.cpp's ggml/src/ggml-quants.c.

The functions convert whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, cols / 256 * 110]. Weights must be finite. `importance` is float32 [cols], not negative.
"""

from __future__ import annotations

import numpy as np

from .columns import (
    F32,
    U8,
    add_rows,
    as_rows,
    at_once,
    c_arithmetic,
    first_extreme,
    from_half,
    half,
    words,
)
from .search import search_symmetric
from .search_refined import SEGMENT, search_signed
from .subblocks import SUPER, round_to_codes, sub_block_chunks, sum_of_squares, weigh

_LEN = 16
# Super-blocks searched at once. In the plain search's last rounds few of them are still active.
_PLAIN, _WEIGHTED = 4096, 512
_BYTES = 110

# Q3_K, 110 bytes.   x = d * (scale[j/16] - 32) * (q[j] - 4)
#
#     0                32                             96          108 110
#     +----------------+------------------------------+------------+---+
#     | 32 bytes:      | 2 x 32 bytes, a half each:   | 16 scales, | d |
#     | bit b of l is  | q[l+96] << 6 | q[l+64] << 4  | 6 bits     |   |
#     | q[32b+l] >> 2  | | q[l+32] << 2 | q[l], low 2  |            |   |
#     +----------------+------------------------------+------------+---+
#                        bits, l = 0..31                             F16
#
#     scales, byte j = 0..7     scale[j] bits 0-3 | scale[j+8] bits 0-3 << 4
#     byte 8 + j, j = 0..3      scale[j] bits 4-5 | scale[j+4] << 2 | [j+8] << 4 | [j+12] << 6


def quantize_q3_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 3 bits; the plain search changes single codes, the weighted one tries 19 scales."""
    out = np.empty((rows.size // SUPER, _BYTES), np.uint8)
    table = rows.reshape(-1, SUPER)
    chunk = _PLAIN if importance is None else _WEIGHTED
    scratch = np.empty(SUPER * min(at_once(chunk), len(out)) + 4 * _LEN * SEGMENT, np.float32)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, _LEN, chunk, importance):
            if weight is None:
                scale, codes = search_signed(x.reshape(_LEN, -1), 4, scratch)
                scales, d = _round_scales(scale.reshape(_LEN, -1))
            else:
                sigma2 = np.float32(2) * sum_of_squares(table[blocks]) / np.float32(SUPER)
                w = weigh(x, weight, sigma2)
                scale, codes = search_symmetric(x.reshape(_LEN, -1), 4, w.reshape(_LEN, -1))
                codes -= np.float32(4)
                unit, scales = search_symmetric(scale.reshape(_LEN, -1), 32, add_rows(w))
                d = half(unit)
            _code_again(x, from_half(d).T * (scales - np.float32(32)), codes.reshape(x.shape))
            _write(codes.reshape(x.shape).astype(np.uint8), scales.astype(np.uint8), d, out[blocks])
    return as_rows(out, rows, SUPER)


def _round_scales(scales: F32) -> tuple[F32, U8]:
    """float32 [16, n] to (codes 0..63, 32 more than their value; their unit as F16 [n, 2])."""
    scales[np.isnan(scales)] = 0  # sums that overflowed: as a code it is 0
    largest = first_extreme(scales)
    (none,) = np.nonzero(largest == 0)
    largest[none] = 1
    inverse = np.float32(-32) / largest
    codes: F32 = scales * inverse
    round_to_codes(codes, -32, 31)
    codes += np.float32(32)
    unit = np.float32(1) / inverse
    unit[none] = 0
    codes[:, none] = 0
    return codes, half(unit)


def _code_again(x: F32, d: F32, codes: F32) -> None:
    """Turn the search's codes -4..3 into 0..7 under the rounded scales (kept where 0).

    x and codes [16, blocks, n]; d [blocks, n].
    """
    columns = codes.reshape(_LEN, -1)
    (dead,) = np.nonzero(d.reshape(-1) == 0)
    searched = columns[:, dead]
    np.divide(x, d, out=codes)
    columns[:, dead] = searched
    round_to_codes(codes, -4, 3)
    codes += np.float32(4)


def _write(q: U8, scales: U8, d: U8, out: U8) -> None:
    high = (q >> 2).reshape(_LEN, 8, 2, -1)
    for bit in range(1, 8):
        high[:, 0] |= high[:, bit] << bit
    out[:, :32].view("<u4").reshape(-1, 2, 4)[...] = words(high[:, 0]).transpose(2, 1, 0)
    low = (q & 3).reshape(_LEN, 2, 4, 2, -1)
    packed = low[:, :, 0] | low[:, :, 1] << 2 | low[:, :, 2] << 4 | low[:, :, 3] << 6
    out[:, 32:96].view("<u4").reshape(-1, 2, 2, 4)[...] = words(packed).transpose(3, 1, 2, 0)
    out[:, 96:104] = (scales[:8] & 15 | scales[8:] << 4).T
    top = scales >> 4
    out[:, 104:108] = (top[:4] | top[4:8] << 2 | top[8:12] << 4 | top[12:] << 6).T
    out[:, 108:] = d


def dequantize_q3_k(blocks: U8) -> F32:
    """x = d * (scale - 32) * (q - 4)."""
    table = blocks.reshape(-1, _BYTES)
    pairs = np.array([0, 2, 4, 6], np.uint8).reshape(4, 1)
    low: U8 = table[:, 32:96].reshape(-1, 2, 1, 32) >> pairs & np.uint8(3)
    bits = np.arange(8, dtype=np.uint8).reshape(8, 1)
    high: U8 = table[:, None, :32] >> bits & np.uint8(1)
    q = (low.reshape(-1, SUPER) | high.reshape(-1, SUPER) << 2).view(np.int8) - np.int8(4)
    nibbles: U8 = table[:, None, 96:104] >> np.array([[0], [4]], np.uint8) & np.uint8(15)
    top: U8 = table[:, None, 104:108] >> pairs & np.uint8(3)
    scales = (nibbles.reshape(-1, 16) | top.reshape(-1, 16) << 4).view(np.int8) - np.int8(32)
    with c_arithmetic():
        d = from_half(table[:, 108:]) * scales
        weights: F32 = d[..., None] * q.reshape(-1, 16, _LEN)
    return as_rows(weights, blocks, _BYTES)
