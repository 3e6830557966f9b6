"""IQ1_S: -1, 0 or 1 shifted by 1/8 up or down, from a grid of 2048 points in 8 dimensions.

Source of every formula: quantize_row_iq1_s_impl in llama.cpp's ggml/src/ggml-quants.c.

Both functions take and give whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, row_bytes]. Weights must be finite. `importance` is float32 [cols], not negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, as_rows, c_arithmetic, from_half, half
from .grid_search import I16
from .grids import grid
from .signs import odd_scale_codes
from .subblocks import SUPER, sub_block_chunks, sum_of_squares, weigh
from .ternary_search import blocks_of, sort_order, to_points

_LEN = 32
_CHUNK = 512
_EPSILON = np.float32(1e-12)
_UP = np.array([-0.875, 0.125, 1.125], np.float32)
_DOWN = np.array([-1.125, -0.125, 0.875], np.float32)

# IQ1_S, 50 bytes.   x = d * (2 * s + 1) * (g + shift), g = -1, 0, 1
#
#     0   2               34                                50
#     +---+---------------+---------------------------------+
#     | d | 32 x g & 255  | 8 x (4 x g >> 8, s << 12, sign) |      shift = 1/8, or -1/8 if the
#     +---+---------------+---------------------------------+      sign bit is set
#     F16                   words of 16 bits


def quantize_iq1_s(rows: F32, importance: F32 | None = None) -> U8:
    """The best scale and shift for each 32 weights, over all ways to cut them into three."""
    if importance is None:
        raise ValueError("cannot be quantized without an importance matrix")
    out = np.zeros((rows.size // SUPER, 50), np.uint8)
    table = rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, _LEN, _CHUNK, importance):
            sigma2 = sum_of_squares(table[blocks]) * np.float32(2) / np.float32(SUPER)
            w = weigh(x, weight, sigma2)
            n = x.shape[2]
            scale, shift, found = _search(x.reshape(_LEN, -1), w.reshape(_LEN, -1))
            d, codes = odd_scale_codes(scale.reshape(8, n), 7, 15)
            words = codes.astype(np.uint16) | (shift < 0).reshape(8, n).astype(np.uint16) << 3
            words <<= 12
            words[:, d == 0] = 0
            numbers = found.reshape(4, 8, n)
            for k in range(4):
                words |= (numbers[k] >> 8 << 3 * k).astype(np.uint16)
            out[blocks, :2] = half(d * np.float32(1.125))
            out[blocks, 2:34] = (numbers & 255).transpose(2, 1, 0).reshape(n, 32)
            out[blocks, 34:] = words.T.astype("<u2", order="C").view(np.uint8)
    return as_rows(out, rows, SUPER)


def _search(x: F32, w: F32) -> tuple[F32, NDArray[np.int8], I16]:
    """Scale and shift (1 or -1), [n] each, and points [4, n], of blocks x [32, n]."""
    dead = np.abs(x).max(axis=0) < _EPSILON
    order = sort_order(x)
    sum_x, sum_w = np.zeros((2, _LEN + 1, x.shape[1]), np.float32)
    np.add.accumulate(np.take_along_axis(w * x, order, axis=0), axis=0, out=sum_x[1:])
    np.add.accumulate(np.take_along_axis(w, order, axis=0), axis=0, out=sum_w[1:])
    scale, first, last, shift = _best_cut(sum_x, sum_w, np.abs(x).max(axis=0))
    dead |= shift == 0

    rank = np.argsort(order, axis=0)
    codes = (rank >= first).astype(np.int8) + (rank >= last)
    turned = scale < 0
    codes[:, turned] = 2 - codes[:, turned]
    scale, shift = np.abs(scale), np.where(turned, -shift, shift)
    scale[dead], shift[dead], codes[:, dead] = 0, 1, 1
    offset = np.where(shift > 0, _UP[0], _DOWN[0])
    scale, found = to_points(grid("IQ1_S"), x, w, codes, scale, offset[None].repeat(4, axis=0))
    scale[dead] = 0
    found[:, dead] = 0
    return scale, shift, found


def _best_cut(
    sum_x: F32, sum_w: F32, start: F32
) -> tuple[F32, NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
    """Scale, first weight with code 1, first with code 2, and shift, from the sums over sorted x.

    The shift is 0 where no cut is any good.
    """
    n = sum_x.shape[1]
    scale, best = start.copy(), np.full(n, -np.finfo(np.float32).max, np.float32)
    first, last, shift = np.zeros((3, n), np.int8)
    ends_x = {1: (sum_x[-1] - sum_x) * _UP[2], -1: (sum_x[-1] - sum_x) * _DOWN[2]}
    ends_w = {
        1: (sum_w[-1] - sum_w) * _UP[2] * _UP[2],
        -1: (sum_w[-1] - sum_w) * _DOWN[2] * _DOWN[2],
    }
    qx, q2, gain, score = np.empty((4, n), np.float32)
    for i in range(_LEN + 1):
        starts_x = {1: sum_x[i] * _UP[0], -1: sum_x[i] * _DOWN[0]}
        starts_w = {1: sum_w[i] * _UP[0] * _UP[0], -1: sum_w[i] * _DOWN[0] * _DOWN[0]}
        middle_x = (sum_x[i:] - sum_x[i]) * _UP[1]
        middle_w = (sum_w[i:] - sum_w[i]) * _UP[1] * _UP[1]
        for j in range(i, _LEN + 1):
            for sign in (1, -1):
                if sign > 0:
                    np.add(starts_x[sign], middle_x[j - i], out=qx)
                else:
                    np.subtract(starts_x[sign], middle_x[j - i], out=qx)
                qx += ends_x[sign][j]
                np.add(starts_w[sign], middle_w[j - i], out=q2)
                q2 += ends_w[sign][j]
                np.multiply(qx, qx, out=score)
                np.multiply(best, q2, out=gain)
                better = score > gain
                better &= q2 > 0
                (some,) = np.nonzero(better)
                if some.size:
                    some_qx = qx[some]
                    some_scale = some_qx / q2[some]
                    scale[some] = some_scale
                    best[some] = some_scale * some_qx
                    first[some], last[some], shift[some] = i, j, sign
    return scale, first, last, shift


def dequantize_iq1_s(blocks: U8) -> F32:
    """x = d * (2 * s + 1) * (g + shift)."""
    table = blocks.reshape(-1, 50)
    words = np.ascontiguousarray(table[:, 34:]).view("<u2")
    high = words[..., None] >> np.array([0, 3, 6, 9], np.uint16) & np.uint16(7)
    found = table[:, 2:34] | high.reshape(-1, 32) << np.uint16(8)
    scales = (2 * (words >> np.uint16(12) & np.uint16(7)) + 1).astype(np.float32)
    shift = np.where(words >> np.uint16(15), np.float32(-0.125), np.float32(0.125))
    with c_arithmetic():
        steps = from_half(table[:, :2]) * scales
        values = blocks_of(found) + shift.repeat(4, axis=1)[..., None]
        weights = steps.repeat(4, axis=1)[..., None] * values
    return as_rows(weights, blocks, 50)
