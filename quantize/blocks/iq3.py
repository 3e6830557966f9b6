"""IQ3_XXS and IQ3_S: magnitudes from grids of 256 and 512 points in 4 dimensions.

Source of every formula: quantize_row_iq3_xxs_impl and quantize_row_iq3_s_impl in llama.cpp's
ggml/src/ggml-quants.c.

Each pair of functions takes and gives whole rows: float32 [rows, cols] with cols a multiple of 256,
and uint8 [rows, row_bytes]. Weights must be finite. `importance` is float32 [cols], not negative;
without it every error is weighted by x squared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, as_rows, c_arithmetic, from_half, half
from .grid_search import search_on_grid
from .grids import I16, Grid, grid
from .neighbours import Vectors
from .signs import even_signs, flip, odd_scale_codes, split_signs, values_with_signs
from .subblocks import SUPER, sub_block_chunks, weights_of_fit

_CHUNK = 1024
_TRIES_31 = np.float32(15) + np.arange(-15, 16, dtype=np.float32) * np.float32(0.2)
_TRIES_19 = np.float32(15) + np.arange(-9, 10, dtype=np.float32) * np.float32(0.2)
MAGNITUDES = {
    "IQ3_XXS": np.array([4, 12, 20, 28, 36, 44, 52, 62], np.float32),
    "IQ3_S": np.array([1, 3, 5, 7, 9, 11, 13, 15], np.float32),
}

# IQ3_XXS, 98 bytes.   x = +-g * d * (s + 1/2) / 2
#
#     0   2         66                        98
#     +---+---------+-------------------------+
#     | d | 64 x g  | 8 x (signs | s << 28)   |      per 32 weights 4 x 7 signs; the 8th of each
#     +---+---------+-------------------------+      makes the number of - even
#     F16             words of 32 bits
#
# IQ3_S, 110 bytes.    x = +-g * d * (2 * s + 1)
#
#     0   2               66        74         106     110
#     +---+---------------+---------+----------+-------+
#     | d | 64 x g & 255  | g >> 8  | 32 signs | 8 x s |
#     +---+---------------+---------+----------+-------+
#     F16                   64 bits              nibbles


def quantize_iq3_xxs(rows: F32, importance: F32 | None = None) -> U8:
    """The best of 31 scales for each 32 weights."""
    out = np.zeros((rows.size // SUPER, 98), np.uint8)
    points, table = grid("IQ3_XXS"), rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, 8, _CHUNK, importance):
            w = weights_of_fit(x, table[blocks], weight)
            scales, found, signs = _search(points, x, w, _TRIES_31, np.float32(1e-8), "off")
            d, codes = odd_scale_codes(scales, 15, 31)
            words = codes.astype(np.uint32) << np.uint32(28)
            for k in range(4):
                words |= signs[k].astype(np.uint32) << np.uint32(7 * k)
            found[..., d == 0] = 0
            words[..., d == 0] = 0
            n = found.shape[-1]
            out[blocks, :2] = half(d * np.float32(1.0125))
            out[blocks, 2:66] = found.transpose(2, 1, 0).reshape(n, 64)
            out[blocks, 66:] = words.T.astype("<u4", order="C").view(np.uint8)
    return as_rows(out, rows, SUPER)


def quantize_iq3_s(rows: F32, importance: F32 | None = None) -> U8:
    """The best of 19 scales for each 32 weights."""
    out = np.zeros((rows.size // SUPER, 110), np.uint8)
    points, table = grid("IQ3_S"), rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, 8, _CHUNK, importance):
            w = weights_of_fit(x, table[blocks], weight)
            tiny = np.finfo(np.float32).smallest_subnormal
            scales, found, signs = _search(points, x, w, _TRIES_19, tiny, "off in block")
            d, codes = odd_scale_codes(scales, 15, 31)
            n = found.shape[-1]
            high = found.transpose(2, 1, 0).reshape(n, 64) > 255
            empty = np.abs(x).reshape(8, 8, 4, n).max(axis=(0, 2)) == 0
            found, signs = (_moved_up(a, empty) for a in (found & 255, signs))
            out[blocks, :2] = half(d * np.float32(1.033))
            out[blocks, 2:66] = found.transpose(2, 1, 0).reshape(n, 64)
            out[blocks, 66:74] = np.packbits(high, axis=1, bitorder="little")
            out[blocks, 74:106] = signs.transpose(2, 1, 0).reshape(n, 32)
            out[blocks, 106:] = (codes[0::2] | codes[1::2] << 4).T
    return as_rows(out, rows, SUPER)


def _moved_up(values: NDArray[Any], empty: NDArray[np.bool_]) -> NDArray[Any]:
    """[k, 8, n] with the empty blocks [8, n] behind the others.

    ggml does not step over the place of a block of zeros, so those behind it lie too far ahead and
    are read as others; we write the same.
    """
    if not empty.any():
        return values
    order = np.argsort(empty, axis=0, kind="stable")
    return np.take_along_axis(values, order[None], axis=1)


def _search(
    points: Grid, x: F32, w: F32, tries: NDArray[np.float32], least: np.floating, again: str
) -> tuple[F32, I16, U8]:
    """Scales [8, n], points [8, 8, n] and signs [4, 8, n] of x [8, 32, n]."""
    n = x.shape[2]
    even = len(points.codes) == 256
    size, signs = split_signs(x, w, even)
    vectors = Vectors(_fours(size), _fours(w), _fours(np.sqrt(w)))
    largest = vectors.x.max(axis=(0, 1))
    dead = largest < least
    largest[dead] = 1
    start = largest / np.float32(15)
    scale, found = search_on_grid(points, vectors, tries, largest, start, again)
    signs = np.ascontiguousarray(signs.reshape(8, 4, n).transpose(1, 0, 2)).reshape(4, -1)
    mask = 127 if even else 255
    scale, signs = flip(scale, signs & np.uint8(mask), mask)
    scale[dead] = 0
    found[:, dead] = 0
    signs[:, dead] = 0
    return scale.reshape(8, n), found.reshape(8, 8, n), signs.reshape(4, 8, n)


def _fours(a: F32) -> F32:
    """[8, 32, n] to [4, 8, 8 * n]: vectors of 4, a column for each 32 weights."""
    n = a.shape[2]
    table = a.reshape(2, 4, 8, 4, n).transpose(1, 3, 0, 2, 4)
    return np.ascontiguousarray(table).reshape(4, 8, 8 * n)


def dequantize_iq3_xxs(blocks: U8) -> F32:
    """x = +-g * d * (s + 1/2) / 2."""
    table = blocks.reshape(-1, 98)
    words = np.ascontiguousarray(table[:, 66:]).view("<u4")
    signs = even_signs(words[..., None] >> np.array([0, 7, 14, 21], np.uint32) & np.uint32(127))
    scales = (words >> np.uint32(28)).astype(np.float32) + np.float32(0.5)
    with c_arithmetic():
        steps = from_half(table[:, :2]) * scales * np.float32(0.5)
    return _values("IQ3_XXS", blocks, 98, steps, table[:, 2:66], signs)


def dequantize_iq3_s(blocks: U8) -> F32:
    """x = +-g * d * (2 * s + 1)."""
    table = blocks.reshape(-1, 110)
    high = np.unpackbits(table[:, 66:74], axis=1, bitorder="little")
    found = table[:, 2:66] | high.astype(np.uint16) << np.uint16(8)
    codes = table[:, 106:, None] >> np.array([0, 4], np.uint8) & np.uint8(15)
    scales = np.float32(2) * codes.reshape(-1, 8).astype(np.float32) + np.float32(1)
    with c_arithmetic():
        steps = from_half(table[:, :2]) * scales
    return _values("IQ3_S", blocks, 110, steps, found, table[:, 74:106])


def _values(
    name: str, blocks: U8, block_bytes: int, steps: F32, found: NDArray[np.integer], signs: U8
) -> F32:
    """float32 [rows, cols] of steps [n, 8], points [n, 64] and signs [n, 32]."""
    magnitudes = MAGNITUDES[name][grid(name).codes][found].reshape(-1, 32, 8)
    with c_arithmetic():
        sized = steps.repeat(4, axis=1)[..., None] * magnitudes
        weights = values_with_signs(sized, signs.reshape(-1, 32))
    return as_rows(weights, blocks, block_bytes)
