"""Q2_K: super-blocks of 256 weights in blocks of 16, ggml's bytes.

The functions convert whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, cols / 256 * 84]. Weights must be finite. `importance` is float32 [cols], not negative.
affine_k.py has the search.
"""

from __future__ import annotations

import numpy as np

from .affine_k import Kind, quantized_chunks, weights_of
from .columns import F32, U8, as_rows, c_arithmetic, words
from .search_affine import Grid
from .subblocks import SUPER

# Q2_K, 84 bytes.   x = d * scale[j/16] * q[j] - dmin * min[j/16]
#
#     0              16                                    80  82     84
#     +--------------+-------------------------------------+---+------+
#     | min << 4     | 2 x 32 bytes, a half each: q[l+96]  | d | dmin |
#     |      | scale | << 6 | q[l+64] << 4 | q[l+32] << 2  |   |      |
#     | of 16 blocks | | q[l], l = 0..31                   |   |      |
#     +--------------+-------------------------------------+---+------+
#                                                            F16  F16


def _spilled(scales: U8, minimums: U8) -> tuple[U8, U8]:
    """Scales beyond 15 as decoded from the bytes: their upper bits overlap the minimums."""
    return scales & np.uint8(15), minimums | scales >> np.uint8(4)


_Q2_K = Kind(
    block_bytes=84,
    length=16,
    top=15,
    plain=Grid(levels=3, first=-0.5, step=0.1, tries=15, absolute=True),
    weighted=Grid(levels=3, first=-0.9, step=0.05, tries=36),
    sigma2=1,
    chunk=1024,
    stored=_spilled,
)


def quantize_q2_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 2 bits in blocks of 16, by 16 tries a block (37 with an importance matrix)."""
    out = np.empty((rows.size // SUPER, 84), np.uint8)
    with c_arithmetic():
        for blocks, found in quantized_chunks(rows, importance, _Q2_K):
            table = out[blocks]
            table[:, :16] = (found.scales | found.minimums << 4).T
            table[:, 80:82] = found.d
            table[:, 82:] = found.dmin
            q = found.codes.reshape(16, 2, 4, 2, -1)
            packed = q[:, :, 0] | q[:, :, 1] << 2 | q[:, :, 2] << 4 | q[:, :, 3] << 6
            pieces = table[:, 16:80].view("<u4").reshape(-1, 2, 2, 4)
            pieces[...] = words(packed).transpose(3, 1, 2, 0)
    return as_rows(out, rows, SUPER)


def dequantize_q2_k(blocks: U8) -> F32:
    """x = d * scale * q - dmin * min."""
    table = blocks.reshape(-1, 84)
    packed = table[:, 16:80].reshape(-1, 2, 1, 32)
    codes: U8 = packed >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & np.uint8(3)
    scales: U8 = table[:, :16] & np.uint8(15)
    minimums: U8 = table[:, :16] >> np.uint8(4)
    codes = codes.reshape(-1, 16, 16)
    weights = weights_of(table[:, 80:82], table[:, 82:], scales, minimums, codes)
    return as_rows(weights, blocks, 84)
