"""Chooses a block's codes together, under the second moments of the inputs they meet.

A matrix W that is rounded to V changes its outputs for inputs x by (W - V) x; the mean square of
that is the quadratic form of each row of W - V under the second moments, the mean of x xT. ggml
rounds each weight for itself. Here the rounding error of a column is made up for by the columns
after it, as GPTQ does (Frantar et al., 2022), and then each code in turn takes the best value given
all others, which never raises the form. Scales and minimums stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .code_planes import LAYOUTS, offsets_and_steps, read_codes, with_codes
from .columns import F32, U8, reciprocal
from .formats import FORMATS

_TOGETHER = 32
"""Columns whose effect on all others is added in one matrix product."""
_ROWS = 1024
"""Rows worked on at once."""


class Grid(NamedTuple):
    """What the codes of columns [cols, rows] stand for: offset + step * values[code]."""

    offset: F32
    step: F32
    inverse: F32
    """Of the step; 0 where it is 0."""
    values: F32
    borders: F32 | None
    """Between neighbouring values; None if the values are 0, 1, 2, ..."""

    def nearest(self, column: int, weights: F32) -> F32:
        """The nearest weight that a code of the column stands for."""
        codes: F32 = weights - self.offset[column]
        codes *= self.inverse[column]
        if self.borders is None:
            np.rint(codes, out=codes)
            np.maximum(codes, np.float32(0), out=codes)
            np.minimum(codes, self.values[-1], out=codes)
        else:
            codes[...] = self.values[np.searchsorted(self.borders, codes)]
        codes *= self.step[column]
        codes += self.offset[column]
        return codes

    def codes(self, weights: F32) -> U8:
        """The codes of weights that are in the grid."""
        found = (weights - self.offset) * self.inverse
        if self.borders is None:
            codes: U8 = np.rint(found).clip(0, self.values[-1]).astype(np.uint8)
        else:
            codes = np.searchsorted(self.borders, found).astype(np.uint8)
        return codes


class Moments(NamedTuple):
    """Second moments of the inputs of some columns, ready for the search."""

    form: F32
    """[cols, cols], with the damping."""
    feedback: F32
    """[cols, cols], upper triangular: how the error of a column is spread over those after it."""


def prepared(second_moments: F32, shrinkage: float = 0.5, damping: float = 0.01) -> Moments | None:
    """The moments [cols, cols] of one group, made safe for texts other than those they come from.

    Entries off the diagonal are multiplied by 1 - `shrinkage`; `damping` times the mean diagonal is
    added to the diagonal (at least 1e-7 of it, so that the inverse exists). None if there was no
    input but zeros. Raises numpy's LinAlgError for a matrix that is not one of second moments.
    """
    form = second_moments * np.float64(1 - shrinkage)
    mean = np.trace(second_moments, dtype=np.float64) / len(form)
    if not mean:
        return None
    np.fill_diagonal(form, second_moments.diagonal() + max(damping, 1e-7) * mean)
    feedback = np.linalg.cholesky(np.linalg.inv(form)).T
    feedback /= feedback.diagonal()[:, None]
    return Moments(form.astype(np.float32), np.ascontiguousarray(feedback, np.float32))


def quadratic_form(errors: F32, form: F32) -> F32:
    """Of each column of errors [cols, rows]."""
    sums: F32 = np.einsum("ij,ij->j", errors, form @ errors)
    return sums


def output_error(errors: F32, moments: Sequence[Moments | None]) -> float:
    """The sum over rows of the quadratic forms of errors [rows, cols]; 0 for groups of None."""
    groups = np.split(errors, len(moments), axis=1)
    return sum(
        float(quadratic_form(np.ascontiguousarray(group.T), one.form).sum(dtype=np.float64))
        for group, one in zip(groups, moments, strict=True)
        if one
    )


def refined(
    name: str, rows: F32, blocks: U8, moments: Sequence[Moments | None], sweeps: int = 2
) -> U8:
    """The blocks with better codes; a row keeps its codes in a group of columns if none are better.

    rows float32 [n, cols] as they were before quantizing; blocks uint8 [n, row_bytes] of the format
    `name`, one of LAYOUTS; `moments` of the groups of columns, all of the same size, None for a
    group that keeps its codes.
    """
    parts = [slice(start, start + _ROWS) for start in range(0, len(rows), _ROWS)]
    return np.concatenate([_refined(name, rows[p], blocks[p], moments, sweeps) for p in parts])


def _refined(
    name: str, rows: F32, blocks: U8, moments: Sequence[Moments | None], sweeps: int
) -> U8:
    codes = read_codes(name, blocks)
    weights = FORMATS[name].dequantize(blocks)
    offset, step = offsets_and_steps(name, blocks)
    size = rows.shape[1] // len(moments)
    for number, group in enumerate(moments):
        if group is None:
            continue
        part = slice(number * size, (number + 1) * size)
        x, old, low, unit = (
            np.ascontiguousarray(table[:, part].T) for table in (rows, weights, offset, step)
        )
        grid = _grid(name, low, unit)
        new = descend(x, with_feedback(x, grid, group.feedback), grid, group.form, sweeps)
        better = quadratic_form(x - new, group.form) < quadratic_form(x - old, group.form)
        changed = better & (unit != 0)
        codes[:, part] = np.where(changed, grid.codes(new), codes[:, part].T).T
    return with_codes(name, blocks, codes)


def _grid(name: str, offset: F32, step: F32) -> Grid:
    layout = LAYOUTS[name]
    if layout.values is None:
        values, borders = np.arange(layout.top + 1, dtype=np.float32), None
    else:
        values, borders = layout.values, (layout.values[1:] + layout.values[:-1]) / np.float32(2)
    return Grid(offset, step, reciprocal(step), values, borders)


def with_feedback(x: F32, grid: Grid, feedback: F32) -> F32:
    """Round column after column of [cols, rows], each error spread over the columns after it."""
    left = x.copy()
    rounded = np.empty_like(x)
    for start in range(0, len(x), _TOGETHER):
        stop = min(start + _TOGETHER, len(x))
        errors = np.empty((stop - start, x.shape[1]), np.float32)
        for column in range(start, stop):
            rounded[column] = grid.nearest(column, left[column])
            error = np.subtract(left[column], rounded[column], out=errors[column - start])
            if column + 1 < stop:
                left[column + 1 : stop] -= feedback[column, column + 1 : stop, None] * error
        left[stop:] -= feedback[start:stop, stop:].T @ errors
    return rounded


def descend(x: F32, rounded: F32, grid: Grid, form: F32, sweeps: int) -> F32:
    """Let each column of `rounded`, [cols, rows], take its best value given the others.

    In place.
    """
    slope = form @ (x - rounded)
    for _ in range(sweeps):
        for start in range(0, len(x), _TOGETHER):
            stop = min(start + _TOGETHER, len(x))
            near = slope[start:stop].copy()
            changes = np.empty_like(near)
            for column in range(start, stop):
                place = column - start
                best = near[place] / form[column, column]
                best += rounded[column]
                best = grid.nearest(column, best)
                change = np.subtract(best, rounded[column], out=changes[place])
                rounded[column] = best
                near[place + 1 :] -= form[column, column + 1 : stop, None] * change
            slope -= form[:, start:stop] @ changes
    return rounded
