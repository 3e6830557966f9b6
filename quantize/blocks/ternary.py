"""TQ1_0 and TQ2_0: weights that are -d, 0 or d, for models trained so (BitNet b1.58, TriLMs).

Source of every formula: quantize_row_tq1_0_ref and quantize_row_tq2_0_ref in llama.cpp's
ggml/src/ggml-quants.c.

Each pair of functions takes and gives whole rows: float32 [rows, cols] with cols a multiple of 256,
and uint8 [rows, row_bytes]. Weights must be finite. Importance changes nothing.
"""

from __future__ import annotations

import numpy as np

from .columns import (
    F32,
    U8,
    as_rows,
    c_arithmetic,
    from_half,
    reciprocal,
    scaled,
)
from .quads import U32, largest, put_half, quad_chunks
from .subblocks import SUPER

_CHUNK = 512
_ONES = np.uint32(0x01010101)
_POWERS = 3 ** np.arange(5, dtype=np.uint16)

# TQ1_0, 54 bytes.   x = d * (t - 1)               TQ2_0, 66 bytes.   x = d * (t - 1)
#
#     0               32        48     52  54          0                          64  66
#     +---------------+---------+------+---+           +--------------------------+---+
#     | 32 x 5 trits  | 16 x 5  | 4 x 4| d |           | 2 x 32 x 4 trits, 2 bits | d |
#     +---------------+---------+------+---+           +--------------------------+---+
#
# Byte m of a part has the trits m, m + width, m + 2 * width ... of it. In TQ1_0 they are the digits
# of a number n in base 3, the first the highest, and the byte is n * 256 / 243, rounded up: so the
# first digit is byte * 3 / 256, and the byte * 3 (modulo 256) has the next one there.

_PARTS = ((0, 32, 5), (160, 16, 5), (240, 4, 4))
"""(first weight, bytes, trits in each) of the three parts of TQ1_0."""


def quantize_tq1_0(rows: F32, importance: F32 | None = None) -> U8:
    """Every weight divided by the largest magnitude and rounded."""
    del importance
    out = np.empty((rows.size // SUPER, 54), np.uint8)
    with c_arithmetic():
        for blocks, x in quad_chunks(rows, SUPER, _CHUNK):
            trits = _trits(x, out[blocks, 52:])
            numbers = np.empty((13, trits.shape[1]), np.uint32)
            at = 0
            for start, width, count in _PARTS:
                part = trits[start // 4 : start // 4 + width // 4 * count]
                _join(part.reshape(count, width // 4, -1), numbers[at : at + width // 4])
                at += width // 4
            numbers[12] *= 3  # no fifth digit
            wide = numbers.view(np.uint8).astype(np.uint16) << 8
            wide += np.uint16(242)
            wide //= np.uint16(243)
            out[blocks, :52].view("<u4")[...] = wide.astype(np.uint8).view("<u4").T
    return as_rows(out, rows, SUPER)


def _join(trits: U32, numbers: U32) -> None:
    """Set the words [k, n] of four numbers below 243 to those with the digits [count, k, n]."""
    numbers[...] = trits[0]
    for digit in trits[1:]:
        numbers *= 3
        numbers += digit


def quantize_tq2_0(rows: F32, importance: F32 | None = None) -> U8:
    """Every weight divided by the largest magnitude and rounded."""
    del importance
    out = np.empty((rows.size // SUPER, 66), np.uint8)
    shifts = np.array([0, 2, 4, 6], np.uint32)[:, None, None]
    with c_arithmetic():
        for blocks, x in quad_chunks(rows, SUPER, _CHUNK):
            trits = _trits(x, out[blocks, 64:]).reshape(2, 4, 8, -1)
            trits <<= shifts
            packed = np.bitwise_or.reduce(trits, axis=1).reshape(16, -1)
            out[blocks, :64].view("<u4")[...] = packed.T
    return as_rows(out, rows, SUPER)


def _trits(x: F32, half: U8) -> U32:
    """Words [64, n] of 0, 1 or 2 for weights x [64, 4 * n]; puts d into half, uint8 [n, 2]."""
    d = largest(x)
    put_half(d, half)
    least = np.repeat(_least_one(reciprocal(d)), 4)
    trits = (x >= least).view(np.uint32)
    trits += _ONES
    trits -= (x <= -least).view(np.uint32)
    return trits


def _least_one(inverse: F32) -> F32:
    """The smallest weights that C's roundf(x * inverse) takes to 1, [n].

    It rounds a half away from zero, and infinity (1 / d of a subnormal d) to a zero. A product is a
    half if it is at least half a unit in the last place below.
    """
    exact = (0.5 - 2.0**-26) / inverse.astype(np.float64)
    exact[np.isinf(inverse)] = np.inf
    least = exact.astype(np.float32)
    return np.where(least < exact, np.nextafter(least, np.float32(np.inf)), least)


def dequantize_tq1_0(blocks: U8) -> F32:
    """x = d * (t - 1)."""
    table = blocks.reshape(-1, 54)
    trits, at = [], 0
    for _, width, count in _PARTS:
        byte = table[:, None, at : at + width] * _POWERS[:count, None].astype(np.uint8)
        trits.append(
            (byte.astype(np.uint16) * np.uint16(3) >> 8).reshape(len(table), count * width)
        )
        at += width
    codes = np.concatenate(trits, axis=1).astype(np.float32) - np.float32(1)
    return as_rows(scaled(codes, from_half(table[:, 52:])), blocks, 54)


def dequantize_tq2_0(blocks: U8) -> F32:
    """x = d * (t - 1)."""
    table = blocks.reshape(-1, 66)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    trits = table[:, :64].reshape(-1, 2, 1, 32) >> shifts & np.uint8(3)
    codes = trits.reshape(-1, SUPER).astype(np.float32) - np.float32(1)
    return as_rows(scaled(codes, from_half(table[:, 64:])), blocks, 66)
