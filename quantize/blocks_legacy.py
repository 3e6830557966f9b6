"""Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 weights under one scale, ggml's bytes.

Source of every formula: quantize_row_*_ref in llama.cpp's ggml/src/ggml-quants.c.

Each pair of functions takes and gives whole rows: float32 [rows, cols] with cols a multiple of 32,
and uint8 [rows, cols / 32 * block_bytes]. Weights must be finite.
"""

from __future__ import annotations

import numpy as np

from .blocks_layout import (
    F32,
    I8,
    U8,
    as_rows,
    c_arithmetic,
    column_chunks,
    first_extreme,
    first_minimum,
    from_half,
    half,
    reciprocal,
    scaled,
    truncated,
)

_LEN = 32
_CHUNK = 2048


# Q8_0, 34 bytes.   x = d * q
#
#     0   2                                34
#     +---+--------------------------------+
#     | d |  q0  q1  q2       ...      q31 |
#     +---+--------------------------------+
#     F16   int8 each


def quantize_q8_0(rows: F32, importance: F32 | None = None) -> U8:
    """Scale max|x| to 127 and round half away from zero. `importance` changes nothing."""
    out = np.empty((rows.size // _LEN, 34), np.uint8)
    fraction = np.empty((_LEN, min(_CHUNK, len(out))), np.float32)
    with c_arithmetic():
        for blocks, x in column_chunks(rows, _LEN, _CHUNK):
            rest = fraction[:, : x.shape[1]]
            np.abs(x, out=rest)
            d = rest.max(axis=0) / np.float32(127)
            x *= reciprocal(d)
            # round(x) = trunc(x) + trunc(2 * (x - trunc(x))), every step of it exact.
            np.trunc(x, out=rest)
            x -= rest
            x += x
            np.trunc(x, out=x)
            x += rest
            out[blocks, :2] = half(d)
            out[blocks, 2:].view(np.int8)[...] = truncated(x).T
    return as_rows(out, rows, _LEN)


def dequantize_q8_0(blocks: U8) -> F32:
    """x = d * q."""
    table = blocks.reshape(-1, 34)
    return as_rows(scaled(table[:, 2:].view(np.int8), from_half(table[:, :2])), blocks, 34)


# Q4_0, 18 bytes.   x = d * (q - 8)             Q5_0, 22 bytes.   x = d * (q - 16)
#
#     0   2                18                   0   2       6                22
#     +---+----------------+                    +---+-------+----------------+
#     | d | 16 x (q+16, q) |                    | d |  q>>4 | 16 x (q+16, q) |
#     +---+----------------+                    +---+-------+----------------+
#     F16   nibbles of q[j+16] (high) and       F16  32 bits  nibbles, the low four bits;
#           q[j] (low), j = 0..15                             the fifth bits of q0..q31 before them
#
# Q4_1, 20 bytes.   x = d * q + m               Q5_1, 24 bytes.   x = d * q + m
#
#     0   2   4                20               0   2   4       8                24
#     +---+---+----------------+                +---+---+-------+----------------+
#     | d | m | 16 x (q+16, q) |                | d | m |  q>>4 | 16 x (q+16, q) |
#     +---+---+----------------+                +---+---+-------+----------------+


def quantize_q4_0(rows: F32, importance: F32 | None = None) -> U8:
    """Scale the weight of largest magnitude to -8."""
    return _symmetric(rows, bits=4)


def quantize_q5_0(rows: F32, importance: F32 | None = None) -> U8:
    """Scale the weight of largest magnitude to -16."""
    return _symmetric(rows, bits=5)


def quantize_q4_1(rows: F32, importance: F32 | None = None) -> U8:
    """Scale from the smallest to the largest weight onto 0..15."""
    return _affine(rows, bits=4)


def quantize_q5_1(rows: F32, importance: F32 | None = None) -> U8:
    """Scale from the smallest to the largest weight onto 0..31."""
    return _affine(rows, bits=5)


def _symmetric(rows: F32, bits: int) -> U8:
    zero = 1 << (bits - 1)
    out = np.empty((rows.size // _LEN, 18 if bits == 4 else 22), np.uint8)
    with c_arithmetic():
        for blocks, x in column_chunks(rows, _LEN, _CHUNK):
            d = first_extreme(x) / np.float32(-zero)
            x *= reciprocal(d)
            x += np.float32(zero + 0.5)
            q = truncated(x)
            np.minimum(q, 2 * zero - 1, out=q)
            out[blocks, :2] = half(d)
            _pack(q, out[blocks, 2:])
    return as_rows(out, rows, _LEN)


def _affine(rows: F32, bits: int) -> U8:
    top = (1 << bits) - 1
    out = np.empty((rows.size // _LEN, 20 if bits == 4 else 24), np.uint8)
    with c_arithmetic():
        for blocks, x in column_chunks(rows, _LEN, _CHUNK):
            low = first_minimum(x)
            # The sum with 0 keeps a block of mixed zeros from a scale of -0.
            d = (x.max(axis=0) - low) / np.float32(top) + np.float32(0)
            x -= low
            x *= reciprocal(d)
            x += np.float32(0.5)
            q = truncated(x)
            if bits == 4:
                np.minimum(q, top, out=q)
            out[blocks, :2] = half(d)
            out[blocks, 2:4] = half(low)
            _pack(q, out[blocks, 4:])
    return as_rows(out, rows, _LEN)


def _pack(q: I8, out: U8) -> None:
    """q [32, n] of 4 or 5 bits into out [n, 16 or 20]: the fifth bits, if any, then nibbles."""
    codes = q.view(np.uint8)
    if out.shape[1] > 16:
        fifth = codes >> 4 & 1
        groups = fifth.reshape(4, 8, -1)
        for bit in range(1, 8):
            groups[:, 0] |= groups[:, bit] << bit
        out[:, :4] = groups[:, 0].T
        codes &= 15
    out[:, -16:] = (codes[:16] | codes[16:] << 4).T


def _unpack(packed: U8) -> I8:
    """The reverse of `_pack`: uint8 [n, 16 or 20] to int8 [n, 32]."""
    nibbles = packed[:, -16:]
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=1)
    if packed.shape[1] > 16:
        codes |= np.unpackbits(packed[:, :4], axis=1, bitorder="little") << 4
    return codes.view(np.int8)


def dequantize_q4_0(blocks: U8) -> F32:
    """x = d * (q - 8)."""
    table = blocks.reshape(-1, 18)
    return as_rows(scaled(_unpack(table[:, 2:]) - np.int8(8), from_half(table[:, :2])), blocks, 18)


def dequantize_q5_0(blocks: U8) -> F32:
    """x = d * (q - 16)."""
    table = blocks.reshape(-1, 22)
    return as_rows(scaled(_unpack(table[:, 2:]) - np.int8(16), from_half(table[:, :2])), blocks, 22)


def dequantize_q4_1(blocks: U8) -> F32:
    """x = d * q + m."""
    table = blocks.reshape(-1, 20)
    d, m = from_half(table[:, :2]), from_half(table[:, 2:4])
    return as_rows(scaled(_unpack(table[:, 4:]), d, m), blocks, 20)


def dequantize_q5_1(blocks: U8) -> F32:
    """x = d * q + m."""
    table = blocks.reshape(-1, 24)
    d, m = from_half(table[:, :2]), from_half(table[:, 2:4])
    return as_rows(scaled(_unpack(table[:, 4:]), d, m), blocks, 24)
