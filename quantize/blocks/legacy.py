"""Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: blocks of 32 weights under one scale, ggml's bytes.

Source of every formula: quantize_row_*_ref in llama.cpp's ggml/src/ggml-quants.c.

Each pair of functions converts whole rows: float32 [rows, cols] with cols a multiple of 32,
and uint8 [rows, cols / 32 * block_bytes]. Weights must be finite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, as_rows, c_arithmetic, from_half, reciprocal, scaled
from .legacy_weighted import quantize_affine, quantize_symmetric
from .quads import U32, fold, int8_words, put_half, quad_chunks

I8 = NDArray[np.int8]

_LEN = 32
_CHUNK = 8192
_LOW_BITS = np.uint32(0x01010101)
"""The lowest bit of each of the four codes in a word."""


# Q8_0, 34 bytes.   x = d * q
#
#     0   2                                34
#     +---+--------------------------------+
#     | d |  q0  q1  q2       ...      q31 |
#     +---+--------------------------------+
#     F16   int8 each


def quantize_q8_0(rows: F32, importance: F32 | None = None) -> U8:
    """Scale max|x| to 127 and round half away from zero. `importance` is ignored."""
    out = np.empty((rows.size // _LEN, 34), np.uint8)
    with c_arithmetic():
        for blocks, x in quad_chunks(rows, _LEN, _CHUNK):
            rest = np.abs(x)
            d = fold(np.maximum, rest) / np.float32(127)
            x *= np.repeat(reciprocal(d), 4)
            # round(x) = trunc(x) + trunc(2 * (x - trunc(x))), every step of it exact.
            np.trunc(x, out=rest)
            x -= rest
            x += x
            np.trunc(x, out=x)
            x += rest
            put_half(d, out[blocks, :2])
            out[blocks, 2:].view("<u4")[...] = int8_words(x).T
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
    if importance is not None:
        return quantize_symmetric(rows, importance, bits=4)
    return _symmetric(rows, bits=4)


def quantize_q5_0(rows: F32, importance: F32 | None = None) -> U8:
    """Scale the weight of largest magnitude to -16."""
    if importance is not None:
        return quantize_symmetric(rows, importance, bits=5)
    return _symmetric(rows, bits=5)


def quantize_q4_1(rows: F32, importance: F32 | None = None) -> U8:
    """Scale from the smallest to the largest weight onto 0..15."""
    if importance is not None:
        return quantize_affine(rows, importance, bits=4)
    return _affine(rows, bits=4)


def quantize_q5_1(rows: F32, importance: F32 | None = None) -> U8:
    """Scale from the smallest to the largest weight onto 0..31."""
    if importance is not None:
        return quantize_affine(rows, importance, bits=5)
    return _affine(rows, bits=5)


def _symmetric(rows: F32, bits: int) -> U8:
    zero = 1 << (bits - 1)
    out = np.empty((rows.size // _LEN, 18 if bits == 4 else 22), np.uint8)
    with c_arithmetic():
        for blocks, x in quad_chunks(rows, _LEN, _CHUNK):
            d = _first_extreme(x) / np.float32(-zero)
            x *= np.repeat(reciprocal(d), 4)
            x += np.float32(zero + 0.5)
            codes = int8_words(x)
            # A weight as large with the opposite sign gives 2 * zero, one too many.
            excess = codes >> bits
            excess &= _LOW_BITS
            codes -= excess
            put_half(d, out[blocks, :2])
            _pack(codes, out[blocks, 2:])
    return as_rows(out, rows, _LEN)


def _affine(rows: F32, bits: int) -> U8:
    out = np.empty((rows.size // _LEN, 20 if bits == 4 else 24), np.uint8)
    with c_arithmetic():
        for blocks, x in quad_chunks(rows, _LEN, _CHUNK):
            low = _first_minimum(x)
            # The sum with 0 keeps a block of mixed zeros from a scale of -0.
            d = (fold(np.maximum, x) - low) / np.float32((1 << bits) - 1) + np.float32(0)
            x -= np.repeat(low, 4)
            x *= np.repeat(reciprocal(d), 4)
            x += np.float32(0.5)
            put_half(d, out[blocks, :2])
            put_half(low, out[blocks, 2:4])
            _pack(int8_words(x), out[blocks, 4:])
    return as_rows(out, rows, _LEN)


def _blocks(x: F32, which: NDArray[np.intp]) -> F32:
    """Some blocks of x [8, 4 * n] in the order of their weights, [which, 32]."""
    return x.reshape(_LEN // 4, -1, 4)[:, which].swapaxes(0, 1).reshape(-1, _LEN)


def _first_extreme(x: F32) -> F32:
    """In each block the weight of the largest magnitude, the first where several are as large.

    A block of zeros gives +0, whatever their signs.
    """
    high, low = fold(np.maximum, x), fold(np.minimum, x)
    (ties,) = np.nonzero(high == -low)
    np.putmask(high, high < -low, low)
    if ties.size:
        tied = _blocks(x, ties)
        high[ties] = tied[np.arange(ties.size), np.abs(tied).argmax(axis=1)]
    high += np.float32(0)
    return high


def _first_minimum(x: F32) -> F32:
    """The smallest weight of each block; where that is zero, the first zero with its sign."""
    low = fold(np.minimum, x)
    (zeros,) = np.nonzero(low == 0)
    if zeros.size:
        tied = _blocks(x, zeros)
        low[zeros] = tied[np.arange(zeros.size), (tied == 0).argmax(axis=1)]
    return low


def _pack(codes: U32, out: U8) -> None:
    """Words [8, n] of codes of 4 or 5 bits into out [n, 16 or 20]; overwrites the codes."""
    if out.shape[1] > 16:
        # One product puts the bits of the four bytes side by side in the top byte.
        fifth = codes >> 4
        fifth &= _LOW_BITS
        fifth *= np.uint32(0x01020408)
        fifth >>= 24
        fifth <<= np.arange(0, _LEN, 4, dtype=np.uint32)[:, None]
        out[:, :4].view("<u4")[:, 0] = np.bitwise_or.reduce(fifth, axis=0)
        codes &= np.uint32(0x0F0F0F0F)
    nibbles = codes[4:] << 4
    nibbles |= codes[:4]
    out[:, -16:].view("<u4")[...] = nibbles.T


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
