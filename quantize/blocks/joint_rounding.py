"""Rounds the columns of rows together: each error is compensated by the columns after it.

First column after column, as in GPTQ (Frantar et al., 2022), or 8 columns at once where a format
rounds these together; then each in turn takes the best value given all others, which never raises
the quadratic form. Arrays of weights are [size, groups, rows], see moments.py.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8
from .moments import Moments, products

Codes = NDArray[np.integer[Any]]
"""A number for each weight, or for all that are rounded at once."""

_TOGETHER = 32
"""Columns whose effect on all others is added in one matrix product."""


class Choices(Protocol):
    """What the weights of some rows of blocks may be rounded to, with the blocks' scales."""

    length: int
    """Columns that are rounded at once, and have one code: 1 or 8."""

    def nearest(self, columns: slice, weights: F32, importance: F32) -> F32:
        """The nearest weights that codes stand for, [length, groups, rows].

        `importance` [groups, length] is that of the columns' squared errors.
        """
        ...

    def read(self) -> Codes:
        """The blocks' codes [rows, cols / length]."""
        ...

    def codes(self, weights: F32, old: Codes) -> Codes:
        """The codes of weights [size, groups, rows] that were given by `nearest`.

        `old` [size / length, groups, rows] are kept where a scale is 0.
        """
        ...

    def write(self, codes: Codes) -> U8:
        """The blocks with these codes [rows, cols / length]."""
        ...


def with_feedback(x: F32, choices: Choices, moments: Moments) -> F32:
    """Round column after column, each error spread over the columns after it."""
    left = x.copy()
    rounded = np.empty_like(x)
    for start in range(0, len(x), _TOGETHER):
        stop = min(start + _TOGETHER, len(x))
        errors = np.empty((stop - start, *x.shape[1:]), np.float32)
        for column in range(start, stop):
            if column % choices.length == 0:
                some = slice(column, column + choices.length)
                rounded[some] = choices.nearest(some, left[some], moments.remaining[:, some])
            error = np.subtract(left[column], rounded[column], out=errors[column - start])
            spread = moments.feedback[:, column, column + 1 : stop].T[:, :, None]
            left[column + 1 : stop] -= spread * error
        after = moments.feedback[:, start:stop, stop:].transpose(0, 2, 1)
        left[stop:] -= products(after, errors)
    return rounded


def descend(x: F32, rounded: F32, choices: Choices, moments: Moments, sweeps: int) -> None:
    """Let the columns of `rounded` take their best values given the others, in place."""
    diagonal = np.einsum("gii->gi", moments.forms)
    slope = products(moments.forms, x - rounded)
    for _ in range(sweeps):
        for start in range(0, len(x), _TOGETHER):
            stop = min(start + _TOGETHER, len(x))
            near = slope[start:stop].copy()
            changes = np.empty_like(near)
            for column in range(start, stop, choices.length):
                some = slice(column, column + choices.length)
                place = slice(some.start - start, some.stop - start)
                best = near[place] / diagonal[:, some].T[:, :, None]
                best += rounded[some]
                best = choices.nearest(some, best, diagonal[:, some])
                if choices.length > 1:
                    gain = _gain(best - rounded[some], near[place], moments.forms[:, some, some])
                    best = np.where(gain > 0, best, rounded[some])
                np.subtract(best, rounded[some], out=changes[place])
                rounded[some] = best
                for one in range(column, some.stop):
                    effect = moments.forms[:, one, some.stop : stop].T[:, :, None]
                    near[place.stop :] -= effect * changes[one - start]
            slope -= products(moments.forms[:, :, start:stop], changes)


def _gain(change: F32, slope: F32, forms: F32) -> F32:
    """How much a change [length, groups, rows] lowers the quadratic form, [groups, rows]."""
    gain: F32 = (change * (2 * slope - products(forms, change))).sum(axis=0)
    return gain
