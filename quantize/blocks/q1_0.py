"""Q1_0: weights that are -d or d, for models trained so.

Source of every formula: quantize_row_q1_0_ref in llama.cpp's ggml/src/ggml-quants.c.

Both functions take and give whole rows: float32 [rows, cols] with cols a multiple of 128, and uint8
[rows, row_bytes]. Weights must be finite. Importance changes nothing.
"""

from __future__ import annotations

import numpy as np

from .columns import F32, U8, add_rows, as_rows, block_chunks, c_arithmetic, from_half, half, scaled

_LEN = 128
_CHUNK = 1024

# Q1_0, 18 bytes.   x = d * (2 * bit - 1)
#
#     0   2                    18
#     +---+--------------------+
#     | d | 16 x 8 signs, 1 is + |      bit j of byte i is that of weight 8 * i + j
#     +---+--------------------+


def quantize_q1_0(rows: F32, importance: F32 | None = None) -> U8:
    """The signs, and the mean magnitude."""
    del importance
    out = np.empty((rows.size // _LEN, 18), np.uint8)
    with c_arithmetic():
        for blocks, x in block_chunks(rows, _LEN, _CHUNK):
            total = add_rows(np.ascontiguousarray(np.abs(x).T))
            out[blocks, :2] = half(total / np.float32(_LEN))
            out[blocks, 2:] = np.packbits(x >= 0, axis=1, bitorder="little")
    return as_rows(out, rows, _LEN)


def dequantize_q1_0(blocks: U8) -> F32:
    """x = d or -d."""
    table = blocks.reshape(-1, 18)
    signs = np.unpackbits(table[:, 2:], axis=1, bitorder="little").astype(np.float32)
    return as_rows(scaled(2 * signs - 1, from_half(table[:, :2])), blocks, 18)
