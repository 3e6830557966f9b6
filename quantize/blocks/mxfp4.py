"""MXFP4: floats of 4 bits (E2M1) under a power of two (E8M0), the OCP microscaling format.

Source of every formula: quantize_row_mxfp4_ref in llama.cpp's ggml/src/ggml-quants.c.

Both functions take and give whole rows: float32 [rows, cols] with cols a multiple of 32, and uint8
[rows, row_bytes]. Weights must be finite. Importance changes nothing.
"""

from __future__ import annotations

import numpy as np

from .columns import F32, U8, as_rows, block_chunks, c_arithmetic

_LEN = 32
_CHUNK = 4096
_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
# Of ceil(2 * |x| / d): halfway between two values the smaller one is taken.
_BORDERS = np.array([1, 3, 5, 7, 10, 14, 20], np.uint8)

# MXFP4, 17 bytes.   x = 2^(e - 128) * value[q], values are twice those of E2M1
#
#     0   1                17
#     +---+----------------+
#     | e | 16 x (q+16, q) |      nibbles of q[j+16] (high) and q[j], j = 0..15
#     +---+----------------+


def quantize_mxfp4(rows: F32, importance: F32 | None = None) -> U8:
    """The exponent of the largest magnitude, and the nearest value to each weight."""
    del importance
    out = np.empty((rows.size // _LEN, 17), np.uint8)
    with c_arithmetic():
        for blocks, x in block_chunks(rows, _LEN, _CHUNK):
            magnitude = np.abs(x)
            exponent = _exponents(magnitude.max(axis=1))
            _in_halves(magnitude, _scales(exponent))
            np.ceil(magnitude, out=magnitude)
            halves, codes = magnitude.astype(np.uint8), np.zeros(x.shape, np.uint8)
            for border in _BORDERS:
                codes += halves > border
            minus = (x < 0) & (codes > 0)
            codes |= minus.view(np.uint8) << 3
            out[blocks, 0] = exponent
            out[blocks, 1:] = codes[:, :16] | codes[:, 16:] << 4
    return as_rows(out, rows, _LEN)


def _in_halves(magnitude: F32, scale: F32) -> None:
    """In place: magnitudes [n, 32] as multiples of half the scales [n], at most 32."""
    inverse = np.float32(2) / scale
    (tiny,) = np.nonzero(np.isinf(inverse))
    divided = magnitude[tiny] / (scale[tiny, None] / np.float32(2))
    magnitude *= inverse[:, None]
    magnitude[tiny] = divided


def _exponents(largest: F32) -> U8:
    """floor(log2f(x)) + 125 in a byte, as C casts it; 0 for 0."""
    # In float64 and then rounded to float32, so that just below a power of two it is that power.
    logarithm = np.log2(largest.astype(np.float64)).astype(np.float32)
    logarithm[largest == 0] = -125
    return (np.floor(logarithm).astype(np.int32) + 125).astype(np.uint8)


def _scales(exponent: U8) -> F32:
    """2^(e - 128), float32."""
    return np.ldexp(np.float32(1), exponent.astype(np.int32) - 128).astype(np.float32)


def dequantize_mxfp4(blocks: U8) -> F32:
    """x = 2^(e - 128) * value[q]."""
    table = blocks.reshape(-1, 17)
    codes = np.concatenate([table[:, 1:] & 15, table[:, 1:] >> 4], axis=1)
    return as_rows(_VALUES[codes] * _scales(table[:, :1]), blocks, 17)
