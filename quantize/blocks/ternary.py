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
    block_chunks,
    c_arithmetic,
    from_half,
    half,
    reciprocal,
    scaled,
)
from .subblocks import SUPER

_CHUNK = 512
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
    for blocks, x in block_chunks(rows, SUPER, _CHUNK):
        trits, d = _trits(x)
        block, at = out[blocks], 0
        for start, width, count in _PARTS:
            part = trits[:, start : start + width * count].reshape(-1, count, width)
            number = (part * _POWERS[::-1][:count, None]).sum(axis=1, dtype=np.uint16)
            block[:, at : at + width] = (number * np.uint16(256) + np.uint16(242)) // np.uint16(243)
            at += width
        block[:, 52:] = d
    return as_rows(out, rows, SUPER)


def quantize_tq2_0(rows: F32, importance: F32 | None = None) -> U8:
    """Every weight divided by the largest magnitude and rounded."""
    del importance
    out = np.empty((rows.size // SUPER, 66), np.uint8)
    for blocks, x in block_chunks(rows, SUPER, _CHUNK):
        trits, d = _trits(x)
        shifted = trits.reshape(-1, 2, 4, 32) << np.array([0, 2, 4, 6], np.uint8)[:, None]
        out[blocks, :64] = np.bitwise_or.reduce(shifted, axis=2).reshape(-1, 64)
        out[blocks, 64:] = d
    return as_rows(out, rows, SUPER)


def _trits(x: F32) -> tuple[U8, U8]:
    """0, 1 or 2 for each weight, uint8 [n, 256], and the bytes of d."""
    d = np.abs(x).max(axis=1)
    with c_arithmetic():
        near = x * reciprocal(d)[:, None]
        # C rounds a half away from zero, and infinity (1 / d of a subnormal d) to a zero.
        finite = np.isfinite(near)
        trits = 1 + (finite & (near >= 0.5)).astype(np.int8) - (finite & (near <= -0.5))
        return trits.astype(np.uint8), half(d)


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
