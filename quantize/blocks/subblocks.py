"""Shared by the K-quants: super-blocks as columns of small blocks, and ggml's rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .columns import F32, at_once

SUPER = 256
_MAGIC = np.float32(12582912)
ROUNDS_EXACTLY = 4194303.0
_SQUARES = 1 << 16
_NEAR = 32


def sub_block_chunks(
    rows: F32,
    length: int,
    chunk: int,
    importance: F32 | None = None,
    size: int = SUPER,
    within: slice = slice(None),
) -> Iterator[tuple[slice, F32, F32 | None]]:
    """(which super-blocks, weights [length, blocks, n], importance likewise), n <= at_once(chunk).

    A super-block is `size` weights in blocks of `length`; `within` limits them to a range. The
    arrays are float32 and contiguous, so that [length, blocks * n] is a view with a column for
    every small block, and [blocks, n] the layout of their scales. The weights lie in one buffer,
    which the next chunk overwrites.
    """
    table = rows.reshape(-1, size // length, length)
    first, last, _ = within.indices(len(table))
    chunk = at_once(chunk)
    buffer = np.empty(size * min(chunk, last - first), np.float32)
    for start in range(first, last, chunk):
        part = table[start : min(start + chunk, last)]
        x = buffer[: part.size].reshape(length, size // length, len(part))
        for near in range(0, len(part), _NEAR):
            # Few enough that what is read stays in the cache until all of it is written.
            some = slice(near, near + _NEAR)
            np.copyto(x[:, :, some], part[some].transpose(2, 1, 0))
        blocks = slice(start, start + len(part))
        yield blocks, x, None if importance is None else _spread(importance, length, blocks, size)


def _spread(importance: F32, length: int, blocks: slice, size: int) -> F32:
    """The importance of every weight of these super-blocks, float32 [length, blocks, n]."""
    table = importance.reshape(-1, size // length, length)
    where = np.arange(blocks.start, blocks.stop) % len(table)
    return np.ascontiguousarray(table[where].transpose(2, 1, 0))


def sum_of_squares(rows: F32) -> F32:
    """[n, length] to [n], the squares added one by one from the left, as C does."""
    sums = np.empty(len(rows), np.float32)
    at_once = max(1, _SQUARES // max(1, rows.shape[1]))
    for start in range(0, len(rows), at_once):
        squares = np.square(rows[start : start + at_once])
        np.add.accumulate(squares, axis=1, out=squares)
        sums[start : start + at_once] = squares[:, -1]
    return sums


def weigh(x: F32, importance: F32, sigma2: F32) -> F32:
    """ggml's weights under an importance matrix, importance * sqrt(sigma2 + x*x), of [..., n]."""
    weights = x * x
    weights += sigma2
    np.sqrt(weights, out=weights)
    weights *= importance
    return weights


def weights_of_fit(x: F32, rows: F32, importance: F32 | None) -> F32:
    """How much each weight of x counts: x*x, or `weigh` with twice the mean square of its row.

    `rows`, [n, 256], are the super-blocks that x and the importance, [..., n], are made of.
    """
    if importance is None:
        return x * x
    return weigh(x, importance, sum_of_squares(rows) * np.float32(2) / np.float32(SUPER))


def round_as_ggml(values: F32) -> None:
    """ggml's nearest_int, in place: adds 1.5 * 2**23 and takes the integer from the mantissa.

    Rounds half to even up to 2**22; beyond it, and for inf and NaN, gives the integers ggml gives.
    """
    bits = (values + _MAGIC).view(np.int32)
    bits &= 0x7FFFFF
    bits -= 0x400000
    np.copyto(values, bits, casting="unsafe")


def round_to_codes(values: F32, low: int, high: int) -> None:
    """In place: round as ggml does, then clamp to low..high."""
    # NaN fails the comparison too. rint and clip are the fast way wherever they are the same.
    top, bottom = np.maximum.reduce(values, axis=None), np.minimum.reduce(values, axis=None)
    if top <= ROUNDS_EXACTLY and bottom >= -ROUNDS_EXACTLY:
        np.rint(values, out=values)
    else:
        round_as_ggml(values)
    np.clip(values, np.float32(low), np.float32(high), out=values)
