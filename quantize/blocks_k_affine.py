"""Q2_K, Q4_K and Q5_K: super-blocks of 256 weights, each small block with a scale and a minimum.

Source of every formula: quantize_row_q*_K_ref (plain) and _impl (with an importance matrix) in
llama.cpp's ggml/src/ggml-quants.c.

Each pair of functions takes and gives whole rows: float32 [rows, cols] with cols a multiple of
256, and uint8 [rows, cols / 256 * block_bytes]. Weights must be finite. `importance` is float32
[cols], not negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .blocks_layout import F32, U8, c_arithmetic, from_half, half
from .blocks_search_affine import Affine, Grid, affine_codes, search_affine
from .blocks_subblocks import SUPER, round_as_ggml, round_to_codes, sub_block_chunks


class _Blocks(NamedTuple):
    """One chunk, quantized. n super-blocks of `blocks` small blocks of `length` weights."""

    codes: U8
    """[length, blocks, n]"""
    scales: U8
    """[blocks, n]"""
    minimums: U8
    """[blocks, n]"""
    d: U8
    """[n, 2], F16"""
    dmin: U8
    """[n, 2], F16"""


def _quantize_plain(x: F32, grid: Grid, top: int) -> _Blocks:
    columns = x.reshape(len(x), -1)
    weights = np.abs(columns)
    if not grid.absolute:
        mean: F32 = np.add.reduce(columns * columns, axis=0)
        mean /= np.float32(len(x))
        weights += np.sqrt(mean, out=mean)
    found = search_affine(columns, weights, grid)
    shape = x.shape[1:]
    scales, d = _round_scales(found.scale.reshape(shape), top)
    minimums, dmin = _round_scales(-found.minimum.reshape(shape), top)
    codes = _final_codes(x, found, from_half(d).T * scales, from_half(dmin).T * minimums, grid)
    return _Blocks(codes, scales, minimums, d, dmin)


def _round_scales(scales: F32, top: int) -> tuple[U8, U8]:
    """float32 [blocks, n] to (codes 0..top as uint8, their unit as F16 [n, 2])."""
    largest = np.fmax.reduce(scales, axis=0, initial=np.float32(0))
    largest += np.float32(0)  # -0, of a block whose minimums are all 0, is +0 in C
    inverse = np.divide(np.float32(top), largest, out=np.zeros_like(largest), where=largest > 0)
    codes = scales * inverse
    round_as_ggml(codes)
    wrapped = codes.astype(np.int32).astype(np.uint8)  # a negative scale wraps, as in C
    return np.minimum(wrapped, np.uint8(top), out=wrapped), half(largest / np.float32(top))


def _final_codes(x: F32, found: Affine, d: F32, m: F32, grid: Grid) -> U8:
    """The codes under the rounded scales; where a scale became 0, those of the search.

    x [length, blocks, n]; d and m [blocks, n].
    """
    codes = x + m
    np.divide(codes, d, out=codes)
    (dead,) = np.nonzero(d.reshape(-1) == 0)
    flat = codes.reshape(len(x), -1)
    if dead.size:
        kept = np.empty((len(x), dead.size), np.float32)
        columns = x.reshape(len(x), -1)[:, dead]
        affine_codes(columns, found.inverse[dead], found.base[dead], grid.levels, kept)
        flat[:, dead] = kept
    round_to_codes(codes, 0, grid.levels)
    return codes.astype(np.uint8)


# Q4_K, 144 bytes.   x = d * scale[j/32] * q[j] - dmin * min[j/32]
#
#     0   2      4            16                              144
#     +---+------+------------+---------------------------------+
#     | d | dmin | scales,    | 4 x 32 bytes: q[64k+32+l] << 4  |
#     |   |      | minimums   |             | q[64k+l]          |
#     +---+------+------------+---------------------------------+
#     F16   F16    8 + 8 codes of 6 bits, for j = 0..3:
#
#     byte j       scale[j]   | scale[j+4] bits 4-5 << 6
#     byte j + 4   min[j]     | min[j+4]   bits 4-5 << 6
#     byte j + 8   scale[j+4] bits 0-3 | min[j+4] bits 0-3 << 4
#
# Q5_K, 176 bytes: the same, with the fifth bits of q between scales and nibbles.
#
#     0   2      4            16                 48             176
#     +---+------+------------+------------------+----------------+
#     | d | dmin | scales,    | 32 bytes: bit b  | 4 x 32 bytes   |
#     |   |      | minimums   | of l is that of  | of nibbles     |
#     |   |      |            | q[32b+l]         |                |
#     +---+------+------------+------------------+----------------+

_Q4_K = Grid(levels=15, first=-1.0, step=0.1, tries=20)
_Q5_K = Grid(levels=31, first=-0.5, step=0.1, tries=15)
_CHUNK_32 = 128


def quantize_q4_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 4 bits in blocks of 32, by 21 tries a block."""
    return _quantize_32(rows, _Q4_K, 144)


def quantize_q5_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 5 bits in blocks of 32, by 16 tries a block."""
    return _quantize_32(rows, _Q5_K, 176)


def _quantize_32(rows: F32, grid: Grid, block_bytes: int) -> U8:
    out = np.empty((rows.size // SUPER, block_bytes), np.uint8)
    with c_arithmetic():
        for blocks, x, _ in sub_block_chunks(rows, 32, _CHUNK_32):
            _write_32(_quantize_plain(x, grid, 63), out[blocks])
    return out.reshape(len(rows), rows.shape[1] // SUPER * block_bytes)


def _write_32(found: _Blocks, out: U8) -> None:
    out[:, :2] = found.d
    out[:, 2:4] = found.dmin
    s, m = found.scales, found.minimums
    out[:, 4:8] = (s[:4] | s[4:] >> 4 << 6).T
    out[:, 8:12] = (m[:4] | m[4:] >> 4 << 6).T
    out[:, 12:16] = (s[4:] & 15 | m[4:] << 4).T
    codes = found.codes
    if out.shape[1] > 144:
        fifth = codes >> 4
        for block in range(1, 8):
            fifth[:, 0] |= fifth[:, block] << block
        out[:, 16:48] = fifth[:, 0].T
        codes &= 15
    nibbles = codes[:, 0::2] | codes[:, 1::2] << 4
    out[:, -128:].reshape(-1, 4, 32)[...] = nibbles.transpose(2, 1, 0)


def _scales_and_minimums(packed: U8) -> tuple[U8, U8]:
    """The 12 bytes of Q4_K and Q5_K, uint8 [n, 12], to two uint8 [n, 8]."""
    first, second, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, low & 15 | first >> 6 << 4], axis=1)
    minimums = np.concatenate([second & 63, low >> 4 | second >> 6 << 4], axis=1)
    return scales, minimums


def dequantize_q4_k(blocks: U8) -> F32:
    """x = d * scale * q - dmin * min."""
    return _dequantize_32(blocks, 144)


def dequantize_q5_k(blocks: U8) -> F32:
    """x = d * scale * q - dmin * min."""
    return _dequantize_32(blocks, 176)


def _dequantize_32(blocks: U8, block_bytes: int) -> F32:
    table = blocks.reshape(-1, block_bytes)
    scales, minimums = _scales_and_minimums(table[:, 4:16])
    nibbles = table[:, -128:].reshape(-1, 4, 1, 32)
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=2).reshape(-1, 8, 32)
    if block_bytes > 144:
        bit = np.arange(8, dtype=np.uint8).reshape(8, 1)
        codes |= (table[:, None, 16:48] >> bit & 1) << 4
    weights = _weights(table[:, 0:2], table[:, 2:4], scales, minimums, codes)
    return weights.reshape(len(blocks), blocks.shape[1] // block_bytes * SUPER)


def _weights(d: U8, dmin: U8, scales: U8, minimums: U8, codes: U8) -> F32:
    with c_arithmetic():
        weights = (from_half(d) * scales)[..., None] * codes
        weights -= (from_half(dmin) * minimums)[..., None]
    return weights


# Q2_K, 84 bytes.   x = d * scale[j/16] * q[j] - dmin * min[j/16]
#
#     0              16                                    80  82     84
#     +--------------+-------------------------------------+---+------+
#     | min << 4     | 2 x 32 bytes, a half each: q[l+96]  | d | dmin |
#     |      | scale | << 6 | q[l+64] << 4 | q[l+32] << 2  |   |      |
#     | of 16 blocks | | q[l], l = 0..31                   |   |      |
#     +--------------+-------------------------------------+---+------+
#                                                            F16  F16

_Q2_K = Grid(levels=3, first=-0.5, step=0.1, tries=15, absolute=True)
_CHUNK_16 = 128


def quantize_q2_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 2 bits in blocks of 16, by 16 tries a block."""
    out = np.empty((rows.size // SUPER, 84), np.uint8)
    with c_arithmetic():
        for blocks, x, _ in sub_block_chunks(rows, 16, _CHUNK_16):
            found = _quantize_plain(x, _Q2_K, 15)
            table = out[blocks]
            table[:, :16] = (found.scales | found.minimums << 4).T
            table[:, 80:82] = found.d
            table[:, 82:] = found.dmin
            q = found.codes.reshape(16, 2, 4, 2, -1)
            packed = q[:, :, 0] | q[:, :, 1] << 2 | q[:, :, 2] << 4 | q[:, :, 3] << 6
            table[:, 16:80].reshape(-1, 2, 2, 16)[...] = packed.transpose(3, 1, 2, 0)
    return out.reshape(len(rows), rows.shape[1] // SUPER * 84)


def dequantize_q2_k(blocks: U8) -> F32:
    """x = d * scale * q - dmin * min."""
    table = blocks.reshape(-1, 84)
    packed = table[:, 16:80].reshape(-1, 2, 1, 32)
    codes: U8 = packed >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & np.uint8(3)
    scales: U8 = table[:, :16] & np.uint8(15)
    minimums: U8 = table[:, :16] >> np.uint8(4)
    codes = codes.reshape(-1, 16, 16)
    weights = _weights(table[:, 80:82], table[:, 82:], scales, minimums, codes)
    return weights.reshape(len(blocks), blocks.shape[1] // 84 * SUPER)
