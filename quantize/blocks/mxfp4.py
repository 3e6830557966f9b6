"""MXFP4: floats of 4 bits (E2M1) under a power of two (E8M0), the OCP microscaling format.

Source of every formula: quantize_row_mxfp4_ref in llama.cpp's ggml/src/ggml-quants.c.

Both functions take and give whole rows: float32 [rows, cols] with cols a multiple of 32, and uint8
[rows, row_bytes]. Weights must be finite. Importance changes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, as_rows, c_arithmetic
from .quads import largest, quad_chunks

_LEN = 32
_CHUNK = 4096
_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
_BORDERS = np.array([1, 3, 5, 7, 10, 14, 20], np.int8)
"""The sums of neighbouring values: where halves of units lie in the middle between them."""
_SIGNS = np.uint32(0x80808080)

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
        for blocks, x in quad_chunks(rows, _LEN, _CHUNK):
            exponent = _exponents(largest(x))
            steps = _steps(x, exponent)
            codes = (steps.view(np.uint32) & _SIGNS) >> 4
            np.abs(steps, out=steps)
            for border in _BORDERS:
                codes += (steps >= border).view(np.uint32)
            codes[:4] |= codes[4:] << 4
            out[blocks, 0] = exponent
            out[blocks, 1:].view("<u4")[...] = codes[:4].T
    return as_rows(out, rows, _LEN)


def _steps(x: F32, exponent: U8) -> NDArray[np.int8]:
    """Weights [8, 4 * n] in half units of 2^(e - 128), the nearest integer that is nearer to 0."""
    up = np.where(exponent < 2, 64, 0)
    if up.any():  # or the inverse of the unit would be infinite
        x *= np.repeat(np.ldexp(np.float32(1), up), 4)
    inverse = np.ldexp(np.float32(1), 129 - up - exponent)
    # A float below the inverse takes every product to the float below it.
    x *= np.repeat(np.nextafter(inverse, np.float32(0)), 4)
    return x.astype(np.int8)


def _exponents(magnitude: F32) -> U8:
    """floor(log2f(x)) + 125 in a byte, as C casts it; 0 for 0."""
    # In float64 and then rounded to float32, so that just below a power of two it is that power.
    logarithm = np.log2(magnitude.astype(np.float64)).astype(np.float32)
    logarithm[magnitude == 0] = -125
    return (np.floor(logarithm).astype(np.int32) + 125).astype(np.uint8)


def _scales(exponent: U8) -> F32:
    """2^(e - 128), float32."""
    return np.ldexp(np.float32(1), exponent.astype(np.int32) - 128).astype(np.float32)


def dequantize_mxfp4(blocks: U8) -> F32:
    """x = 2^(e - 128) * value[q]."""
    table = blocks.reshape(-1, 17)
    codes = np.concatenate([table[:, 1:] & 15, table[:, 1:] >> 4], axis=1)
    return as_rows(_VALUES[codes] * _scales(table[:, :1]), blocks, 17)
