"""The grids of the i-quants: which code vectors exist, and which of them lie near any other one.

A grid point is a vector of 8 (IQ1, IQ2) or 4 (IQ3) codes. A vector of codes is named by its
position, sum of code[i] * levels**i. The points are read from gguf-py, which has them from ggml's
ggml-common.h; the tables of neighbours are made as iq2xs_init_impl and iq3xs_init_impl make them in
llama.cpp's ggml/src/ggml-quants.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from gguf import quants
from numpy.typing import NDArray

from .columns import F32, U8

I16 = NDArray[np.int16]
Positions = NDArray[np.uint16]

_SHELLS = {"IQ2_XXS": 2, "IQ2_XS": 2, "IQ2_S": 1, "IQ1_S": 3, "IQ3_XXS": 2, "IQ3_S": 3}
"""How many of the nearest distances count as near."""
_AT_ONCE = 1024


@dataclass(frozen=True)
class Grid:
    """The points of one grid, and for each position either its point or those near to it."""

    levels: int
    codes: U8
    """[points, length]: the points as codes."""
    at: NDArray[np.uint8]
    """[positions, length]: the codes of every position."""
    index: I16
    """[positions]: the point that lies there, or -1."""
    start: NDArray[np.int32]
    """[positions + 1]: the points near to position p are near[start[p] : start[p + 1]]."""
    near: I16
    """Points by their distance, and at one distance by their number."""
    counts: NDArray[np.int32]
    """[positions]: how many points are near."""
    values: F32
    """[points + 1, length]: what the codes stand for in units of the scale, but for the offset of
    IQ1. The last row, of zeros, stands in for a point where there is none."""
    features: F32
    """[points + 1, 2 * length]: the values squared, and their doubles negated, of which squared
    distances are made."""

    @property
    def length(self) -> int:
        """Codes in a vector."""
        return int(self.codes.shape[1])

    def positions(self, codes: F32) -> Positions:
        """The position of each vector of codes, float32 [..., length, n] to [..., n]."""
        # Whole numbers below 2**24: exact in any order, so BLAS may add them.
        powers = np.float32(self.levels) ** np.arange(self.length, dtype=np.float32)
        found: Positions = np.matmul(powers, codes).astype(np.uint16)
        return found


@cache
def grid(name: str) -> Grid:
    """The grid of this block format; made once, in 0.1 to 0.5 s."""
    codes = _points(name)
    levels = 8 if codes.shape[1] == 4 else 3
    length = codes.shape[1]
    at = np.indices((levels,) * length, np.uint8).reshape(length, -1)[::-1].T
    index = np.full(len(at), -1, np.int16)
    powers = levels ** np.arange(length)
    index[codes @ powers] = np.arange(len(codes))
    counts, near = _neighbours(codes, at, index, _SHELLS[name])
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    step = np.float32(1 if name.startswith("IQ1") else 2)
    values = np.zeros((len(codes) + 1, length), np.float32)
    values[:-1] = step * codes.astype(np.float32) + np.float32(step - 1)
    features = np.concatenate([values * values, -2 * values], axis=1)
    at = np.ascontiguousarray(at)
    return Grid(levels, codes, at, index, start, near, counts, values, features)


def _points(name: str) -> U8:
    source: Any = getattr(quants, name)
    source.init_grid()
    values = source.grid.reshape(source.grid_shape)
    codes: U8 = np.searchsorted(np.asarray(source.grid_map, np.float32), values).astype(np.uint8)
    return codes


def _neighbours(
    codes: U8, at: U8, index: I16, shells: int
) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    """For each position without a point, the points at its `shells` smallest distances."""
    counts = np.zeros(len(at), np.int32)
    near = []
    points = codes.astype(np.float32)
    squares = np.square(points).sum(axis=1)
    (vacant,) = np.nonzero(index < 0)
    for first in range(0, len(vacant), _AT_ONCE):
        some = vacant[first : first + _AT_ONCE]
        # The squared distance less the position's own square: whole numbers, exact.
        distance = squares - 2 * (at[some].astype(np.float32) @ points.T)
        limit = distance.min(axis=1, keepdims=True)
        for _ in range(shells - 1):
            beyond = np.where(distance > limit, distance, np.inf)
            limit = np.minimum(beyond.min(axis=1, keepdims=True), np.float32(1e6))
        rows, points_there = np.nonzero(distance <= limit)
        order = np.lexsort((points_there, distance[rows, points_there], rows))
        counts[some] = np.bincount(rows, minlength=len(some))
        near.append(points_there[order].astype(np.int16))
    return counts, np.concatenate(near) if near else np.empty(0, np.int16)
