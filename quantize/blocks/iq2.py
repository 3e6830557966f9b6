"""IQ2_XXS, IQ2_XS and IQ2_S: magnitudes from grids of 256, 512 and 1024 points in 8 dimensions.

Source of every formula: quantize_row_iq2_xxs_impl, quantize_row_iq2_xs_impl and
quantize_row_iq2_s_impl in llama.cpp's ggml/src/ggml-quants.c.

Each pair of functions takes and gives whole rows: float32 [rows, cols] with cols a multiple of 256,
and uint8 [rows, row_bytes]. Weights must be finite. `importance` is float32 [cols], not negative;
IQ2_XXS and IQ2_XS need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.common.errors import RecipeError

from .columns import F32, U8, as_rows, c_arithmetic, from_half, half
from .grid_search import search_on_grid
from .grids import I16, Grid, grid
from .neighbours import Vectors
from .search_refined import search_unsigned
from .signs import even_signs, flip, odd_scale_codes, split_signs, values_with_signs
from .subblocks import SUPER, sub_block_chunks, sum_of_squares, weigh

_CHUNK = 2048
MAGNITUDES = np.array([8, 25, 43], np.float32)
"""What the codes of a grid point stand for."""
_TRIES_13 = np.float32(5) + np.arange(-6, 7, dtype=np.float32) * np.float32(0.1)
_TRIES_19 = np.float32(5) + np.arange(-9, 10, dtype=np.float32) * np.float32(0.1)
_NO_IMPORTANCE = "IQ2_XXS and IQ2_XS need an importance matrix; add --imatrix FILE"

# IQ2_XXS, 66 bytes: per 32 weights 4 grid points and, in 32 bits, 4 x 7 signs and a scale.
#
#     0   2                                  66     x = +-g * d * (s + 1/2) / 4, g = 8, 25, 43
#     +---+----------------------------------+
#     | d | 8 x (4 x g, signs | s << 28)     |      the 8th sign makes the number of - even
#     +---+----------------------------------+
#     F16
#
# IQ2_XS, 74 bytes: a scale for 16.               IQ2_S, 82 bytes: all signs, 10 bits a point.
#
#     0   2                        66      74     0   2         34         66      74      82
#     +---+------------------------+-------+      +---+---------+----------+-------+-------+
#     | d | 32 x (g | signs << 9)  | 16 x s|      | d | g & 255 | 32 signs | g >> 8| 16 x s|
#     +---+------------------------+-------+      +---+---------+----------+-------+-------+
#     F16   words of 16 bits        nibbles       F16                       2 bits  nibbles


def quantize_iq2_xxs(rows: F32, importance: F32 | None = None) -> U8:
    """The best of 13 scales for each 32 weights, around one found without the grid."""
    out = np.zeros((rows.size // SUPER, 66), np.uint8)
    points = grid("IQ2_XXS")
    for chunk in _chunks(rows, importance, 32, factor=1):
        scales, found, signs = _search_xxs(points, chunk)
        d, codes = odd_scale_codes(scales, 15, 31)
        words = np.zeros((8, 2, chunk.n), np.uint32)
        for k in range(4):
            words[:, 0] |= found[k].astype(np.uint32) << np.uint32(8 * k)
            words[:, 1] |= signs[k].astype(np.uint32) << np.uint32(7 * k)
        words[:, 1] |= codes.astype(np.uint32) << np.uint32(28)
        words[..., d == 0] = 0
        out[chunk.blocks, :2] = half(d)
        out[chunk.blocks, 2:] = words.reshape(16, -1).T.astype("<u4", order="C").view(np.uint8)
    return as_rows(out, rows, SUPER)


def quantize_iq2_xs(rows: F32, importance: F32 | None = None) -> U8:
    """The best of 19 scales for each 16 weights."""
    out = np.zeros((rows.size // SUPER, 74), np.uint8)
    points = grid("IQ2_XS")
    for chunk in _chunks(rows, importance, 16, factor=1):
        scales, found, signs = _search_16(points, chunk, np.float32(1e-15))
        d, codes = odd_scale_codes(scales, 15, 31)
        words = found.astype(np.uint16) | signs.astype(np.uint16) << np.uint16(9)
        words[..., d == 0] = 0
        out[chunk.blocks, :2] = half(d)
        table = words.transpose(2, 1, 0).reshape(chunk.n, 32)
        out[chunk.blocks, 2:66] = table.astype("<u2", order="C").view(np.uint8)
        out[chunk.blocks, 66:] = (codes[0::2] | codes[1::2] << 4).T
    return as_rows(out, rows, SUPER)


def quantize_iq2_s(rows: F32, importance: F32 | None = None) -> U8:
    """The best of 19 scales for each 16 weights."""
    out = np.zeros((rows.size // SUPER, 82), np.uint8)
    points = grid("IQ2_S")
    for chunk in _chunks(rows, importance, 16, factor=2, needed=False):
        scales, found, signs = _search_16(points, chunk, np.float32(1e-8))
        d, codes = odd_scale_codes(scales, 15, 31)
        numbers = found.transpose(2, 1, 0).reshape(chunk.n, 8, 4)
        high = numbers >> 8 << np.array([0, 2, 4, 6], np.int16)
        out[chunk.blocks, :2] = half(d * np.float32(0.9875))
        out[chunk.blocks, 2:34] = (numbers & 255).reshape(chunk.n, 32)
        out[chunk.blocks, 34:66] = signs.transpose(2, 1, 0).reshape(chunk.n, 32)
        out[chunk.blocks, 66:74] = np.bitwise_or.reduce(high, axis=2)
        out[chunk.blocks, 74:] = (codes[0::2] | codes[1::2] << 4).T
    return as_rows(out, rows, SUPER)


@dataclass(frozen=True)
class _Chunk:
    """Super-blocks, their weights in vectors of 8, and how much each weight counts."""

    blocks: slice
    x: F32
    """[8, vectors, blocks * n], a column for each block that has a scale."""
    w: F32

    @property
    def n(self) -> int:
        return int(self.blocks.stop - self.blocks.start)


def _chunks(
    rows: F32, importance: F32 | None, length: int, factor: int, needed: bool = True
) -> Iterator[_Chunk]:
    """Cut rows into chunks with `length` weights a scale."""
    if needed and importance is None:
        raise RecipeError(_NO_IMPORTANCE)
    table = rows.reshape(-1, SUPER)
    with c_arithmetic():
        for blocks, x, weight in sub_block_chunks(rows, 8, _CHUNK, importance):
            sigma2 = sum_of_squares(table[blocks]) * np.float32(factor) / np.float32(SUPER)
            w = x * x + np.float32(0.25) * sigma2 if weight is None else weigh(x, weight, sigma2)
            yield _Chunk(blocks, _by_scale(x, length), _by_scale(w, length))


def _by_scale(a: F32, length: int) -> F32:
    """[8, 32, n] to [8, length / 8, 256 / length * n]."""
    vectors, n = length // 8, a.shape[2]
    table = a.reshape(8, 32 // vectors, vectors, n).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(table).reshape(8, vectors, -1)


def _search_xxs(points: Grid, chunk: _Chunk) -> tuple[F32, I16, U8]:
    """Scales [8, n], points and signs [4, 8, n]."""
    size, signs = split_signs(chunk.x, chunk.w, even=True)
    flat = size.transpose(1, 0, 2).reshape(32, -1)
    dead = flat.max(axis=0) < np.float32(1e-15)
    weights = np.ascontiguousarray(chunk.w.transpose(1, 0, 2)).reshape(32, -1)
    start, _ = search_unsigned(flat, weights, 4)
    largest = start * np.float32(3)
    dead |= largest <= 0
    largest[dead] = 1
    vectors = Vectors(size, chunk.w, np.sqrt(chunk.w))
    scale, found = search_on_grid(points, vectors, _TRIES_13, largest, start, "all")
    return _settle(scale, found, signs & np.uint8(127), dead, 127, 8)


def _search_16(points: Grid, chunk: _Chunk, epsilon: np.float32) -> tuple[F32, I16, U8]:
    """Scales [16, n], points and signs [2, 16, n]."""
    even = len(points.codes) == 512
    size, signs = split_signs(chunk.x, chunk.w, even)
    largest = size.max(axis=(0, 1))
    dead = largest < epsilon
    largest[dead] = 1
    vectors = Vectors(size, chunk.w, np.sqrt(chunk.w))
    start = largest / np.float32(5)
    scale, found = search_on_grid(points, vectors, _TRIES_19, largest, start, "off")
    mask = 127 if even else 255
    return _settle(scale, found, signs & np.uint8(mask), dead, mask, 16)


def _settle(
    scale: F32, found: I16, signs: U8, dead: NDArray[np.bool_], mask: int, blocks: int
) -> tuple[F32, I16, U8]:
    """Scales made positive, blocks of zeros all zero, and a super-block's blocks side by side."""
    scale, signs = flip(scale, signs, mask)
    scale[dead] = 0
    found[:, dead] = 0
    signs[:, dead] = 0
    shape = len(found), blocks, -1
    return scale.reshape(blocks, -1), found.reshape(shape), signs.reshape(shape)


def dequantize_iq2_xxs(blocks: U8) -> F32:
    """x = +-g * d * (s + 1/2) / 4."""
    table = blocks.reshape(-1, 66)
    words = np.ascontiguousarray(table[:, 2:]).view("<u4").reshape(len(table), 8, 2)
    found = words[..., :1] >> np.array([0, 8, 16, 24], np.uint32) & np.uint32(255)
    signs = words[..., 1:] >> np.array([0, 7, 14, 21], np.uint32) & np.uint32(127)
    scales = (words[..., 1] >> np.uint32(28)).astype(np.float32)
    return _values("IQ2_XXS", blocks, table, scales, found, even_signs(signs))


def dequantize_iq2_xs(blocks: U8) -> F32:
    """x = +-g * d * (s + 1/2) / 4."""
    table = blocks.reshape(-1, 74)
    words = np.ascontiguousarray(table[:, 2:66]).view("<u2")
    scales = _nibbles(table[:, 66:])
    return _values(
        "IQ2_XS",
        blocks,
        table,
        scales,
        words & np.uint16(511),
        even_signs(words >> np.uint16(9)),
    )


def dequantize_iq2_s(blocks: U8) -> F32:
    """x = +-g * d * (s + 1/2) / 4."""
    table = blocks.reshape(-1, 82)
    high = table[:, 66:74, None] >> np.array([0, 2, 4, 6], np.uint8) & np.uint8(3)
    found = table[:, 2:34] | high.reshape(-1, 32).astype(np.uint16) << np.uint16(8)
    scales = _nibbles(table[:, 74:])
    return _values("IQ2_S", blocks, table, scales, found, table[:, 34:66])


def _nibbles(raw: U8) -> F32:
    pairs = raw[..., None] >> np.array([0, 4], np.uint8) & np.uint8(15)
    return pairs.reshape(len(raw), 2 * raw.shape[1]).astype(np.float32)


def _values(
    name: str, blocks: U8, table: U8, scales: F32, found: NDArray[np.integer], signs: U8
) -> F32:
    """float32 [rows, cols] of blocks [n, bytes], scales [n, 8 or 16], points and signs [n, 32]."""
    with c_arithmetic():
        steps = from_half(table[:, :2]) * (np.float32(0.5) + scales) * np.float32(0.25)
        each = steps.repeat(32 // steps.shape[1], axis=1)
        magnitudes = MAGNITUDES[grid(name).codes][found.reshape(-1, 32)]
        weights = values_with_signs(each[..., None] * magnitudes, signs.reshape(-1, 32))
    return as_rows(weights, blocks, table.shape[1])
