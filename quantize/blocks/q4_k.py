"""Q4_K and Q5_K: super-blocks of 256 weights in blocks of 32, ggml's bytes.

The functions convert whole rows: float32 [rows, cols] with cols a multiple of 256, and uint8
[rows, cols / 256 * block_bytes]. Weights must be finite. `importance` is float32 [cols], not
negative. affine_k.py has the search.
"""

from __future__ import annotations

import numpy as np

from .affine_k import Blocks, Kind, quantized_chunks, weights_of
from .columns import F32, U8, as_rows, c_arithmetic, words
from .search_affine import Grid
from .subblocks import SUPER

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


def _spilled(scales: U8, minimums: U8) -> tuple[U8, U8]:
    """Scales beyond 63 as decoded from Q4_K's bytes: their upper bits overlap those of others."""
    stored = scales & np.uint8(63)
    stored[4:] = scales[4:] & 15 | (scales[:4] >> 6 | scales[4:] >> 4 & 3) << 4
    return stored, minimums


def _limited(scales: U8, minimums: U8) -> tuple[U8, U8]:
    """Scales limited to 63, as ggml does for Q5_K."""
    return np.minimum(scales, np.uint8(63)), minimums


_Q4_K = Kind(
    block_bytes=144,
    length=32,
    top=63,
    plain=Grid(levels=15, first=-1.0, step=0.1, tries=20),
    weighted=Grid(levels=15, first=-0.9, step=0.05, tries=36),
    sigma2=2,
    chunk=1024,
    stored=_spilled,
)
_Q5_K = Kind(
    block_bytes=176,
    length=32,
    top=63,
    plain=Grid(levels=31, first=-0.5, step=0.1, tries=15),
    weighted=Grid(levels=31, first=-0.9, step=0.05, tries=36),
    sigma2=2,
    chunk=1024,
    stored=_limited,
)


def quantize_q4_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 4 bits in blocks of 32, by 21 tries a block (37 with an importance matrix)."""
    return _quantize_32(rows, importance, _Q4_K)


def quantize_q5_k(rows: F32, importance: F32 | None = None) -> U8:
    """Codes of 5 bits in blocks of 32, by 16 tries a block (37 with an importance matrix)."""
    return _quantize_32(rows, importance, _Q5_K)


def _quantize_32(rows: F32, importance: F32 | None, kind: Kind) -> U8:
    out = np.empty((rows.size // SUPER, kind.block_bytes), np.uint8)
    with c_arithmetic():
        for blocks, found in quantized_chunks(rows, importance, kind):
            _write_32(found, out[blocks])
    return as_rows(out, rows, SUPER)


def _write_32(found: Blocks, out: U8) -> None:
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
        out[:, 16:48].view("<u4")[...] = words(fifth[:, 0]).T
        codes &= 15
    nibbles = codes[:, 0::2] | codes[:, 1::2] << 4
    out[:, -128:].view("<u4").reshape(-1, 4, 8)[...] = words(nibbles).transpose(2, 1, 0)


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
    weights = weights_of(table[:, 0:2], table[:, 2:4], scales, minimums, codes)
    return as_rows(weights, blocks, block_bytes)
