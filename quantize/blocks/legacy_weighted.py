"""Q4_0, Q4_1, Q5_0 and Q5_1 under an importance matrix: the searches of the K-quants, ggml's bytes.

Source of every formula: quantize_row_q*_impl in llama.cpp's ggml/src/ggml-quants.c. legacy.py
shows the layouts. `rows` is float32 [rows, cols] with cols a multiple of 32, `importance` float32
[cols], not negative; the result is uint8 [rows, row_bytes].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .columns import F32, U8, as_rows, c_arithmetic, half
from .search import search_symmetric
from .search_affine import Grid, affine_codes, search_affine
from .subblocks import sub_block_chunks, sum_of_squares, weigh

_LEN = 32
_CHUNK = 3072
# Weights in the rows whose mean squares are taken together.
_BATCH = 1 << 20


def quantize_symmetric(rows: F32, importance: F32, bits: int) -> U8:
    """Q4_0 or Q5_0: for each block the best of 19 scales."""
    out = np.empty((rows.size // _LEN, 18 if bits == 4 else 22), np.uint8)
    with c_arithmetic():
        for blocks, x, w in _weighted_chunks(rows, importance):
            scale, codes = search_symmetric(x, 1 << (bits - 1), w)
            out[blocks, :2] = half(scale)
            _pack(codes.astype(np.uint8), out[blocks, 2:])
    return as_rows(out, rows, _LEN)


def quantize_affine(rows: F32, importance: F32, bits: int) -> U8:
    """Q4_1 or Q5_1: for each block the best of 37 pairs of scale and minimum."""
    out = np.empty((rows.size // _LEN, 20 if bits == 4 else 24), np.uint8)
    grid = Grid(levels=(1 << bits) - 1, first=-0.9, step=0.05, tries=36)
    with c_arithmetic():
        for blocks, x, w in _weighted_chunks(rows, importance):
            found = search_affine(x, w, grid)
            out[blocks, :2] = half(found.scale)
            out[blocks, 2:4] = half(found.minimum)
            affine_codes(x, found.inverse, found.base, grid.levels, w)
            _pack(w.astype(np.uint8), out[blocks, 4:])
    return as_rows(out, rows, _LEN)


def _weighted_chunks(rows: F32, importance: F32) -> Iterator[tuple[slice, F32, F32]]:
    """(which blocks, x and the weights of its errors, both [32, n])."""
    cols = rows.shape[1]
    at_once = max(1, _BATCH // max(1, cols))
    for start in range(0, len(rows), at_once):
        batch = rows[start : start + at_once]
        sigma2 = np.repeat(sum_of_squares(batch) / np.float32(cols), cols // _LEN)
        first = start * cols // _LEN
        for blocks, x, spread in sub_block_chunks(batch, _LEN, _CHUNK, importance, size=_LEN):
            assert spread is not None  # because importance is given
            w = weigh(x, spread, sigma2[blocks]).reshape(_LEN, -1)
            yield slice(first + blocks.start, first + blocks.stop), x.reshape(_LEN, -1), w


def _pack(codes: U8, out: U8) -> None:
    """Codes of 4 or 5 bits, [32, n], into out [n, 16 or 20]."""
    if out.shape[1] > 16:
        out[:, :4] = np.packbits(codes >> 4, axis=0, bitorder="little").T
        codes &= 15
    out[:, -16:] = (codes[:16] | codes[16:] << 4).T
