"""Blocks as columns: the layout in which ggml's loops over one block become ufuncs over many.

A chunk of n blocks is held transposed, float32 [block_len, n]. Every ufunc then runs along rows of
n numbers, and a sum over axis 0 adds row after row: ggml's order, so that float32 rounds alike.
(numpy sums the last axis in pairs, and einsum and BLAS in orders of their own.) How large a chunk
is best depends on the machine's caches and on what a call of numpy costs there: a Tuning changes
it, and never the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

DType = TypeVar("DType", bound=np.generic)

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class Tuning(NamedTuple):
    """What of the work is sized to a machine."""

    chunk: float = 1.0
    """The blocks worked on at once, relative to what was best on the machines in docs/log."""
    buffer: int = 512
    """Numbers in numpy's buffer. As long as two rows of an array fit there, numpy copies an operand
    of one row into it again and again, which doubles the time of `x * scale`; each filling costs a
    call."""


DEFAULT = Tuning()
_tuning: ContextVar[Tuning] = ContextVar("tuning", default=DEFAULT)


@contextmanager
def tuned(tuning: Tuning) -> Iterator[None]:
    """Work so until the block ends, in this thread."""
    before = _tuning.set(tuning)
    try:
        yield
    finally:
        _tuning.reset(before)


def at_once(blocks: int) -> int:
    """How many blocks to work on at once where `blocks` are usual."""
    return max(1, round(blocks * _tuning.get().chunk))


def block_chunks(rows: F32, block_len: int, blocks: int) -> Iterator[tuple[slice, F32]]:
    """The weights of all blocks, float32 [n, block_len] at a time, and which blocks they are.

    For formats whose blocks need no sums in ggml's order: these are not held as columns. `blocks`
    as in `at_once`.
    """
    table = rows.reshape(-1, block_len)
    count = at_once(blocks)
    for first in range(0, len(table), count):
        chunk = slice(first, first + count)
        yield chunk, table[chunk]


@contextmanager
def c_arithmetic() -> Iterator[None]:
    """Floats as in C: overflow gives inf, 0/0 gives NaN, without warnings. And a small buffer."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        before = np.setbufsize(_tuning.get().buffer)
        try:
            yield
        finally:
            np.setbufsize(before)


def add_rows(columns: F32, out: F32 | None = None, initial: np.float32 | None = None) -> F32:
    """The sum over axis 0, row after row as in C.

    numpy does so too, unless each row is one number: then it adds them in pairs.
    """
    if columns.size == len(columns):
        total: F32 = np.add.accumulate(columns, axis=0)[-1]
        if initial is not None:
            total = total + initial  # only decides the sign of a zero
        if out is None:
            return total
        out[...] = total
        return out
    if initial is None:
        return np.add.reduce(columns, axis=0, out=out)
    return np.add.reduce(columns, axis=0, out=out, initial=initial)


def as_rows(values: NDArray[DType], rows: NDArray[Any], per_block: int) -> NDArray[DType]:
    """One result per block, [blocks, ...], as one row for each of `rows`.

    `per_block` is how many columns of `rows` one block takes there.
    """
    cols = rows.shape[1] // per_block * prod(values.shape[1:])
    return values.reshape(len(rows), cols)


def scaled(codes: NDArray[Any], scale: F32, minimum: F32 | None = None) -> F32:
    """codes * scale + minimum as float32, also where a broken file's scales are inf or NaN."""
    with c_arithmetic():
        weights: F32 = codes * scale
        if minimum is not None:
            weights += minimum
    return weights


def half(values: F32) -> U8:
    """float32 [n] to the bytes of little-endian F16, uint8 [n, 2]; too large becomes infinite."""
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def from_half(raw: U8) -> F32:
    """The bytes of F16, uint8 [n, 2], to float32 [n, 1]."""
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def words(columns: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
    """Bytes, uint8 [4 * k, ...], as words [k, ...] of four, the first in the low byte.

    To be moved in place of bytes where columns become rows: what an element costs there does not
    depend on its size.
    """
    pairs = columns[1::2].astype(np.uint16)
    pairs <<= 8
    pairs |= columns[0::2]
    joined = pairs[1::2].astype(np.uint32)
    joined <<= 16
    joined |= pairs[0::2]
    return joined


def reciprocal(values: F32) -> F32:
    """1 / x, and 0 where x is 0; infinite where x is so small that its reciprocal overflows."""
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)


def first_extreme(columns: F32) -> F32:
    """In each column the weight of the largest magnitude, the first where several are as large.

    A column of zeros gives +0, whatever their signs.
    """
    high: F32 = columns.max(axis=0)
    low: F32 = columns.min(axis=0)
    (ties,) = np.nonzero(high == -low)
    np.putmask(high, high < -low, low)
    if ties.size:
        tied = columns[:, ties]
        high[ties] = tied[np.abs(tied).argmax(axis=0), np.arange(ties.size)]
    high += np.float32(0)
    return high


def first_minimum(columns: F32) -> F32:
    """The smallest weight of each column; where that is zero, the first zero with its sign."""
    low: F32 = columns.min(axis=0)
    (zeros,) = np.nonzero(low == 0)
    if zeros.size:
        tied = columns[:, zeros]
        low[zeros] = tied[(tied == 0).argmax(axis=0), np.arange(zeros.size)]
    return low
