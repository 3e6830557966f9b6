"""IQ1_S: -1, 0 or 1 shifted by 1/8 up or down, from a grid of 2048 points in 8 dimensions.

Source of every formula: quantize_row_iq1_s_impl in llama.cpp's ggml/src/ggml-quants.c.

Both functions take and give whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, row_bytes]. Weights must be finite. `importance` is float32 [cols], not negative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.common.errors import RecipeError

from .columns import F32, U8, as_rows, c_arithmetic, from_half, half
from .grids import I16, grid
from .signs import odd_scale_codes
from .subblocks import SUPER, sub_block_chunks, weights_of_fit
from .ternary_search import (
    DOWN,
    UP,
    Cut,
    Places,
    Sums,
    best_cut,
    blocks_of,
    codes_of,
    sort_order,
    sums_before,
    to_points,
)

_LEN = 32
_CHUNK = 2048
_EPSILON = np.float32(1e-12)

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
        raise RecipeError("IQ1_S needs an importance matrix; add --imatrix FILE")
    out = np.zeros((rows.size // SUPER, 50), np.uint8)
    table = rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, _LEN, _CHUNK, importance):
            w = weights_of_fit(x, table[blocks], weight)
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
    order = sort_order(x)
    cut = _best_cut(np.take_along_axis(w * x, order, axis=0), np.take_along_axis(w, order, axis=0))
    dead = (np.abs(x).max(axis=0) < _EPSILON) | (cut.kind < 0)
    scale, codes, turned = codes_of(cut, order)
    shift = np.where((cut.kind == 0) ^ turned, np.int8(1), np.int8(-1))
    scale[dead], shift[dead], codes[:, dead] = 0, 1, 1
    offset = np.where(shift > 0, UP[0], DOWN[0])
    scale, found = to_points(grid("IQ1_S"), x, w, codes, scale, offset[None].repeat(4, axis=0))
    scale[dead] = 0
    found[:, dead] = 0
    return scale, shift, found


def _best_cut(wx: F32, w: F32) -> Cut:
    """The best cut of sorted weights [32, n]; kind 0 is shifted up, 1 down."""
    q = np.stack([UP, DOWN])
    step = np.square(q)[:, :2] - np.square(q)[:, 1:]
    sum_x, sum_w = sums_before(wx), sums_before(w)
    sums = Sums(
        x=sum_x,
        total=sum_x[-1] * q[:, 2:],
        first=sum_w[:, None] * step[:, :1],
        last=sum_w[:, None] * step[:, 1:] + sum_w[-1] * np.square(q[:, 2:]),
    )

    def measure(first: Places, last: Places, kind: Places, column: Places) -> tuple[F32, F32]:
        q0, q1, q2 = q[kind].T
        x0, x1, x2 = sum_x[first, column], sum_x[last, column], sum_x[-1, column]
        w0, w1, w2 = sum_w[first, column], sum_w[last, column], sum_w[-1, column]
        return (
            x0 * q0 + (x1 - x0) * q1 + (x2 - x1) * q2,
            w0 * q0 * q0 + (w1 - w0) * q1 * q1 + (w2 - w1) * q2 * q2,
        )

    return best_cut(sums, measure)


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
