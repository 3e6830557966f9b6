"""IQ1_M: as IQ1_S, but with a scale for 16 weights and a shift for 8.

Source of every formula: quantize_row_iq1_m_impl in llama.cpp's ggml/src/ggml-quants.c.

Both functions take and give whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, row_bytes]. Weights must be finite. `importance` is float32 [cols], not negative; without it
every error is weighted by x squared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, add_rows, as_rows, c_arithmetic, from_half, half
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
    values_of,
)

_LEN = 16
_CHUNK = 2048
_EPSILON = np.float32(1e-7)
_KINDS = np.array([[UP, UP], [UP, DOWN], [DOWN, UP], [DOWN, DOWN]])
"""[kind, half of the block, code]: the four ways to shift a block's two vectors."""

# IQ1_M, 56 bytes.   x = d * (2 * s + 1) * (g + shift), g = -1, 0, 1
#
#     0               32                           48                    56
#     +---------------+----------------------------+---------------------+
#     | 32 x g & 255  | 32 x (g >> 8, sign), 4 bits| 4 x (4 x s, d >> k) |      shift = 1/8, or -1/8
#     +---------------+----------------------------+---------------------+      if the sign is set
#                                                    words of 16 bits: 3 bits for each s, and above
#                                                    them 4 bits of d, an F16, the lowest first


def quantize_iq1_m(rows: F32, importance: F32 | None = None) -> U8:
    """The best scale and two shifts for each 16 weights, over all ways to cut them into three."""
    out = np.zeros((rows.size // SUPER, 56), np.uint8)
    table = rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, _LEN, _CHUNK, importance):
            n = x.shape[2]
            w = weights_of_fit(x, table[blocks], weight)
            scale, kind, found = _search(x.reshape(_LEN, -1), w.reshape(_LEN, -1))
            d, codes = odd_scale_codes(scale.reshape(16, n), 7, 15)
            numbers = found.reshape(2, 16, n).transpose(2, 1, 0).reshape(n, 32)
            signs = (_KINDS[kind, :, 0] == DOWN[0]).reshape(16, n, 2).transpose(1, 0, 2)
            signs[d == 0] = False
            high = (numbers >> 8).astype(np.uint8) | signs.reshape(n, 32) << np.uint8(3)
            out[blocks, :32] = numbers & 255
            out[blocks, 32:48] = high[:, 0::2] | high[:, 1::2] << 4
            out[blocks, 48:] = _scale_words(_fit(x, w, found, kind, codes, d), codes)
    return as_rows(out, rows, SUPER)


def _search(x: F32, w: F32) -> tuple[F32, Places, I16]:
    """Scale and kind, [n] each, and points [2, n], of blocks x [16, n]."""
    order = sort_order(x)
    cut = _best_cut(
        np.take_along_axis(w * x, order, axis=0), np.take_along_axis(w, order, axis=0), order < 8
    )
    dead = (np.abs(x).max(axis=0) < _EPSILON) | (cut.kind < 0)
    scale, codes, turned = codes_of(cut, order)
    kind = np.where(turned, 3 - cut.kind, cut.kind)
    scale[dead], kind[dead], codes[:, dead] = 0, 0, 1
    offset = np.ascontiguousarray(_KINDS[kind, :, 0].T)
    scale, found = to_points(grid("IQ1_S"), x, w, codes, scale, offset)
    scale[dead] = 0
    found[:, dead] = 0
    return scale, kind, found


def _best_cut(wx: F32, w: F32, left: NDArray[np.bool_]) -> Cut:
    """The best cut of sorted weights [16, n], of which some are of the left vector."""
    squares = np.square(_KINDS)
    step = (squares[..., :2] - squares[..., 1:])[..., None]
    ends = _KINDS[..., 2, None]
    sums_x = [sums_before(np.where(mine, wx, np.float32(0))) for mine in (left, ~left)]
    sums_w = [sums_before(np.where(mine, w, np.float32(0))) for mine in (left, ~left)]
    sums = Sums(
        x=sums_x[0] + sums_x[1],
        total=sums_x[0][-1] * ends[:, 0] + sums_x[1][-1] * ends[:, 1],
        first=sums_w[0][:, None] * step[:, 0, 0] + sums_w[1][:, None] * step[:, 1, 0],
        last=sums_w[0][:, None] * step[:, 0, 1]
        + sums_w[1][:, None] * step[:, 1, 1]
        + sums_w[0][-1] * np.square(ends[:, 0])
        + sums_w[1][-1] * np.square(ends[:, 1]),
    )

    def measure(first: Places, last: Places, kind: Places, column: Places) -> tuple[F32, F32]:
        halves = []
        for side, (x, norm) in enumerate(zip(sums_x, sums_w, strict=True)):
            end = ends[kind, side, 0]
            by_first, by_last = step[kind, side, 0, 0], step[kind, side, 1, 0]
            halves.append(
                (
                    x[-1, column] * end - (x[first, column] + x[last, column]),
                    norm[-1, column] * end * end
                    + norm[first, column] * by_first
                    + norm[last, column] * by_last,
                )
            )
        return halves[0][0] + halves[1][0], halves[0][1] + halves[1][1]

    return best_cut(sums, measure)


def _fit(x: F32, w: F32, found: I16, kind: Places, codes: U8, d: F32) -> F32:
    """The scale [n] of super-blocks x [16, 16, n] whose blocks have these codes [16, n]."""
    n = len(d)
    q = values_of(found, np.ascontiguousarray(_KINDS[kind, :, 0].T)).reshape(16, 16, n)
    q *= (2 * codes + 1).astype(np.float32)
    wq = w * q
    zero = np.float32(0)
    in_order = ((wq * a).transpose(1, 0, 2).reshape(SUPER, n) for a in (x, q))
    sum_qx, sum_q2 = (add_rows(a, initial=zero) for a in in_order)
    fit = d.copy()
    np.divide(sum_qx, sum_q2, out=fit, where=(sum_q2 > 0) & (d != 0))
    return fit


def _scale_words(d: F32, codes: U8) -> U8:
    """[n] and [16, n] to the four words, uint8 [n, 8]."""
    shifts = np.array([0, 3, 6, 9], np.uint16)[:, None]
    words = np.bitwise_or.reduce(codes.reshape(4, 4, -1).astype(np.uint16) << shifts, axis=1)
    bits = half(d * np.float32(1.1125)).view("<u2")[:, 0]
    words |= bits >> np.array([0, 4, 8, 12], np.uint16)[:, None] << np.uint16(12)
    raw: U8 = words.T.astype("<u2", order="C").view(np.uint8)
    return raw


def dequantize_iq1_m(blocks: U8) -> F32:
    """x = d * (2 * s + 1) * (g + shift)."""
    table = blocks.reshape(-1, 56)
    words = np.ascontiguousarray(table[:, 48:]).view("<u2")
    parts = words >> np.uint16(12) << np.array([0, 4, 8, 12], np.uint16)
    d = np.bitwise_or.reduce(parts, axis=1, keepdims=True).astype("<u2").view(np.uint8)
    codes = words[..., None] >> np.array([0, 3, 6, 9], np.uint16) & np.uint16(7)
    scales = (2 * codes + 1).reshape(-1, 16).astype(np.float32)
    high = _nibbles(table[:, 32:48])
    found = table[:, :32] | (high & np.uint8(7)).astype(np.uint16) << np.uint16(8)
    shift = np.where(high >> 3, np.float32(-0.125), np.float32(0.125))
    with c_arithmetic():
        steps = (from_half(d) * scales).repeat(2, axis=1)
        weights = steps[..., None] * (blocks_of(found) + shift[..., None])
    return as_rows(weights, blocks, 56)


def _nibbles(raw: U8) -> U8:
    pairs: U8 = raw[..., None] >> np.array([0, 4], np.uint8) & np.uint8(15)
    return pairs.reshape(len(raw), 2 * raw.shape[1])
