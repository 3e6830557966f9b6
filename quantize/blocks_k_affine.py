"""Q2_K, Q4_K and Q5_K: super-blocks of 256 weights, each small block with a scale and a minimum.

Source of every formula: quantize_row_q*_K_ref (plain) and _impl (with an importance matrix) in
llama.cpp's ggml/src/ggml-quants.c.

Each pair of functions takes and gives whole rows: float32 [rows, cols] with cols a multiple of
256, and uint8 [rows, cols / 256 * block_bytes]. Weights must be finite. `importance` is float32
[cols], not negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .blocks_layout import F32, U8, c_arithmetic, from_half, half
from .blocks_search_affine import Affine, Grid, affine_codes, search_affine
from .blocks_search_refined import search_unsigned
from .blocks_subblocks import (
    SUPER,
    round_as_ggml,
    round_to_codes,
    sub_block_chunks,
    sum_of_squares,
    weigh,
)

# Super-blocks whose scales are rounded together: the weighted search for them is a loop over few
# numbers, which pays for many columns only.
_BATCH = 4096


class _Kind(NamedTuple):
    """What differs between the formats."""

    block_bytes: int
    length: int
    """Weights in a small block."""
    top: int
    """The largest code of a scale or a minimum."""
    plain: Grid
    weighted: Grid
    sigma2: float
    """By what the mean square of a super-block enters its weights under an importance matrix."""
    chunk: int
    """Super-blocks searched at once."""


class _Blocks(NamedTuple):
    """n super-blocks, quantized."""

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


def _quantized(rows: F32, importance: F32 | None, kind: _Kind) -> Iterator[tuple[slice, _Blocks]]:
    """(which super-blocks, their codes), batch by batch: search, round the scales, code again."""
    total = rows.size // SUPER
    levels = kind.plain.levels
    for start in range(0, total, _BATCH):
        batch = slice(start, min(start + _BATCH, total))
        found, strength = _search(rows, importance, kind, batch)
        lows = -found.minimum
        if importance is None:
            scales, d = _round_scales(found.scale, kind.top)
            minimums, dmin = _round_scales(lows, kind.top)
        else:
            scales, d = _fit_scales(found.scale, strength, kind.top)
            minimums, dmin = _fit_scales(lows, strength, kind.top)
            if scales.max() > kind.top:
                scales, minimums = _as_stored(scales, minimums, kind)
        steps, offsets = from_half(d).T * scales, from_half(dmin).T * minimums
        for blocks, x, _ in sub_block_chunks(rows, kind.length, kind.chunk, within=batch):
            part = slice(blocks.start - start, blocks.stop - start)
            searched = Affine(*(field[:, part].reshape(-1) for field in found))
            codes = _final_codes(x, searched, steps[:, part], offsets[:, part], levels)
            yield (
                blocks,
                _Blocks(codes, scales[:, part], minimums[:, part], d[part], dmin[part]),
            )


def _search(rows: F32, importance: F32 | None, kind: _Kind, batch: slice) -> tuple[Affine, F32]:
    """Scales and minimums of a batch, and the sums of weights that they stand for: [blocks, n]."""
    length = kind.length
    table = rows.reshape(-1, SUPER)
    results = np.empty((5, SUPER // length, batch.stop - batch.start), np.float32)
    for blocks, x, spread in sub_block_chunks(rows, length, kind.chunk, importance, within=batch):
        columns = x.reshape(length, -1)
        if spread is None:
            weights, grid = _plain_weights(columns, kind.plain.absolute), kind.plain
        else:
            sigma2 = sum_of_squares(table[blocks]) * np.float32(kind.sigma2 / SUPER)
            weights, grid = weigh(x, spread, sigma2).reshape(length, -1), kind.weighted
        part = results[..., blocks.start - batch.start : blocks.stop - batch.start]
        found = search_affine(columns, weights, grid)
        part[...] = np.stack([*found, np.add.reduce(weights, axis=0)]).reshape(part.shape)
    return Affine(*results[:4]), results[4]


def _plain_weights(x: F32, absolute: bool) -> F32:
    """Larger weights count more: |x|, plus the root of the block's mean square if not `absolute`.

    x is [length, n].
    """
    weights: F32 = np.abs(x)
    if not absolute:
        mean: F32 = np.add.reduce(x * x, axis=0)
        mean /= np.float32(len(x))
        weights += np.sqrt(mean, out=mean)
    return weights


def _fit_scales(scales: F32, strength: F32, top: int) -> tuple[U8, U8]:
    """As `_round_scales`, by a search in which each scale counts as its block's weights do."""
    unit, codes = search_unsigned(scales, strength, top)
    return codes.astype(np.uint8), half(unit)


def _as_stored(scales: U8, minimums: U8, kind: _Kind) -> tuple[U8, U8]:
    """Scales and minimums [blocks, n] as they come back from ggml's bytes.

    Its search makes codes beyond `top` of negative scales, which fits of blocks with hardly any
    weight can have. Q5_K limits them; in Q2_K and Q4_K their upper bits end up in other codes.
    """
    if kind is _Q5_K:
        return np.minimum(scales, np.uint8(kind.top)), minimums
    stored = scales.copy()
    if kind is _Q2_K:
        stored &= 15
        return stored, minimums | scales >> np.uint8(4)
    stored &= 63
    stored[4:] = scales[4:] & 15 | (scales[:4] >> 6 | scales[4:] >> 4 & 3) << 4
    return stored, minimums


def _round_scales(scales: F32, top: int) -> tuple[U8, U8]:
    """float32 [blocks, n] to (codes 0..top as uint8, their unit as F16 [n, 2])."""
    largest = np.fmax.reduce(scales, axis=0, initial=np.float32(0))
    largest += np.float32(0)  # -0, of a block whose minimums are all 0, is +0 in C
    inverse = np.divide(np.float32(top), largest, out=np.zeros_like(largest), where=largest > 0)
    codes = scales * inverse
    round_as_ggml(codes)
    wrapped = codes.astype(np.int32).astype(np.uint8)  # a negative scale wraps, as in C
    return np.minimum(wrapped, np.uint8(top), out=wrapped), half(largest / np.float32(top))


def _final_codes(x: F32, found: Affine, d: F32, m: F32, levels: int) -> U8:
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
        affine_codes(columns, found.inverse[dead], found.base[dead], levels, kept)
        flat[:, dead] = kept
    round_to_codes(codes, 0, levels)
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

_Q4_K = _Kind(
    block_bytes=144,
    length=32,
    top=63,
    plain=Grid(levels=15, first=-1.0, step=0.1, tries=20),
    weighted=Grid(levels=15, first=-0.9, step=0.05, tries=36),
    sigma2=2,
    chunk=512,
)
_Q5_K = _Kind(
    block_bytes=176,
    length=32,
    top=63,
    plain=Grid(levels=31, first=-0.5, step=0.1, tries=15),
    weighted=Grid(levels=31, first=-0.9, step=0.05, tries=36),
    sigma2=2,
    chunk=512,
)


def quantize_q4_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 4 bits in blocks of 32, by 21 tries a block (37 with an importance matrix)."""
    return _quantize_32(rows, importance, _Q4_K)


def quantize_q5_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 5 bits in blocks of 32, by 16 tries a block (37 with an importance matrix)."""
    return _quantize_32(rows, importance, _Q5_K)


def _quantize_32(rows: F32, importance: F32 | None, kind: _Kind) -> U8:
    out = np.empty((rows.size // SUPER, kind.block_bytes), np.uint8)
    with c_arithmetic():
        for blocks, found in _quantized(rows, importance, kind):
            _write_32(found, out[blocks])
    return out.reshape(len(rows), rows.shape[1] // SUPER * kind.block_bytes)


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

_Q2_K = _Kind(
    block_bytes=84,
    length=16,
    top=15,
    plain=Grid(levels=3, first=-0.5, step=0.1, tries=15, absolute=True),
    weighted=Grid(levels=3, first=-0.9, step=0.05, tries=36),
    sigma2=1,
    chunk=512,
)


def quantize_q2_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 2 bits in blocks of 16, by 16 tries a block (37 with an importance matrix)."""
    out = np.empty((rows.size // SUPER, 84), np.uint8)
    with c_arithmetic():
        for blocks, found in _quantized(rows, importance, _Q2_K):
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
