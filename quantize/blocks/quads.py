"""Blocks as columns of four weights, for formats that need only the extremes of a block.

No sums are taken there, so the order is free, and moving four weights at once is three times as
fast as moving each to a column of its own. Their four codes of a byte are then one word.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8, at_once

U32 = NDArray[np.uint32]


def quad_chunks(rows: F32, block_len: int, blocks: int) -> Iterator[tuple[slice, F32]]:
    """(which blocks, their weights as float32 [block_len / 4, 4 * n]), `blocks` as in `at_once`.

    [k, 4 * b + i] is weight 4k + i of block b. The next chunk overwrites the weights.
    """
    quads = rows.view("V16").reshape(-1, block_len // 4)
    chunk = at_once(blocks)
    buffer = np.empty(block_len * min(chunk, len(quads)), np.float32)
    for start in range(0, len(quads), chunk):
        part = quads[start : start + chunk]
        x = buffer[: part.size * 4].reshape(block_len // 4, -1)
        np.copyto(x.view("V16"), part.T)
        yield slice(start, start + len(part)), x


def fold(extreme: np.ufunc, x: F32) -> F32:
    """np.maximum or np.minimum over each block of x [k, 4 * n], to [n]."""
    quads = extreme.reduce(x, axis=0)
    pairs = extreme(quads[0::2], quads[1::2])
    folded: F32 = extreme(pairs[0::2], pairs[1::2])
    return folded


def largest(x: F32) -> F32:
    """The largest magnitude in each block of x [k, 4 * n], to [n]."""
    found: F32 = np.maximum(fold(np.maximum, x), -fold(np.minimum, x))
    found += np.float32(0)  # zeros may have made it -0
    return found


def int8_words(x: F32) -> U32:
    """x [k, 4 * n] as the words uint32 [k, n] of four int8 codes, the first in the low byte.

    Rounded toward zero, as C casts float to int and that to int8_t: NaN becomes 0.
    """
    return x.astype(np.int8).view("<u4")


def put_half(values: F32, out: U8) -> None:
    """float32 [n] as little-endian F16 into out [n, 2]; values too large become infinite."""
    out.view("<f2")[:, 0] = values
