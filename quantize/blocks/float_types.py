"""F32, F16 and BF16 as block formats of one weight each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

_SIGN_AND_28_BITS = np.int32(0x8FFFFFFF - (1 << 32))
_BIAS = np.float32(2.0**112)
_F16_END = np.float32(65536)
_INFINITY = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}


def is_finite(blocks: U8, name: str) -> bool:
    """Whether weights that are stored as F32, F16 or BF16 hold neither Inf nor NaN.

    Read as integers those have the largest values: the positive ones as signed integers, the
    negative ones as unsigned integers. Takes no longer than a copy.
    """
    item_bytes, infinity = (4 if name == "F32" else 2), _INFINITY[name]
    negative = infinity + (1 << 8 * item_bytes - 1)
    signed, unsigned = blocks.view(f"<i{item_bytes}"), blocks.view(f"<u{item_bytes}")
    return bool(signed.max() < infinity and unsigned.max() < negative)


def quantize_f32(rows: F32, importance: F32 | None = None) -> U8:
    """float32 [n, cols] to its own little-endian bytes, uint8 [n, 4 * cols]."""
    return np.ascontiguousarray(rows, "<f4").view(np.uint8)


def dequantize_f32(blocks: U8) -> F32:
    """uint8 [n, 4 * cols] to float32 [n, cols], without a copy."""
    return blocks.view("<f4")


def quantize_f16(rows: F32, importance: F32 | None = None) -> U8:
    """float32 [n, cols] to IEEE half precision, nearest even; beyond 65504 it is infinite."""
    with np.errstate(over="ignore"):
        return rows.astype("<f2").view(np.uint8)


def dequantize_f16(blocks: U8) -> F32:
    """Half precision to float32, exact.

    Sign, exponent and mantissa are shifted to their places in float32, and the exponent's bias is
    corrected by multiplying by 2**112, which is right for subnormals too; this takes a quarter of
    the time of numpy's cast. Inf and NaN give 65536 and more, and then numpy's cast is used.
    """
    bits = blocks.view("<i2").astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_28_BITS
    rows = bits.view(np.float32)
    rows *= _BIAS
    if rows.size and (rows.min() <= -_F16_END or rows.max() >= _F16_END):
        return blocks.view("<f2").astype(np.float32)
    return rows


def quantize_bf16(rows: F32, importance: F32 | None = None) -> U8:
    """float32 [n, cols] to its upper 16 bits, nearest even; a NaN stays one and becomes quiet."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += bits
    rounded += 0x7FFF
    rounded >>= 16
    nan = np.isnan(rows)
    if nan.any():
        rounded[nan] = (bits[nan] >> 16) | 64
    return rounded.astype("<u2").view(np.uint8)


def dequantize_bf16(blocks: U8) -> F32:
    """bfloat16 to float32, exact: the 16 bits are the upper half."""
    wide = blocks.view("<u2").astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
