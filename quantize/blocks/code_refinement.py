"""Chooses the codes of a row together, under the second moments of the inputs they meet.

A matrix W that is rounded to V changes its outputs for inputs x by (W - V) x; the mean square of
that is the quadratic form of each row of W - V under the second moments, the mean of x xT. ggml
rounds each weight for itself. Here the columns are rounded one after the other, and each error is
compensated by the columns after it, as in GPTQ (Frantar et al., 2022); then each code in turn takes
the best value given all others, which never raises the form. Scales and minimums stay.

Arrays of weights are [size, groups, rows], with the `size` columns of a group first: groups are
independent, so the first columns of all groups are rounded at once, then the second ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .code_planes import LAYOUTS, offsets_and_steps, read_codes, with_codes
from .columns import F32, U8, reciprocal
from .formats import FORMATS

Number = TypeVar("Number", np.float32, np.uint8)

_TOGETHER = 32
"""Columns whose effect on all others is added in one matrix product."""
_AT_ONCE = 2048
"""Weights of one column that are worked on at once, in all groups."""


class Moments(NamedTuple):
    """Second moments of the inputs of a matrix, ready for the search."""

    groups: int
    """All groups of columns, of equal size."""
    places: NDArray[np.intp]
    """The groups whose codes are chosen, [known]; the others had no input but zeros."""
    forms: F32
    """[known, size, size], with the damping."""
    feedback: F32
    """[known, size, size], upper triangular: how a column's error is spread over those after it."""


def prepared(
    second_moments: Iterable[F32 | None], shrinkage: float = 0.5, damping: float = 0.01
) -> Moments:
    """The moments [size, size] of each group, made safe for texts other than theirs.

    Entries off the diagonal are multiplied by 1 - `shrinkage`; `damping` times the mean diagonal is
    added to the diagonal (at least 1e-7 of it, so that the inverse exists). A group of None keeps
    its codes. Raises numpy's LinAlgError for a matrix that is not one of second moments.
    """
    places, forms, feedbacks = [], [], []
    number = -1
    for number, moments in enumerate(second_moments):
        if moments is None or not (mean := np.trace(moments, dtype=np.float64) / len(moments)):
            continue
        form = moments * np.float64(1 - shrinkage)
        np.fill_diagonal(form, moments.diagonal() + max(damping, 1e-7) * mean)
        feedback = np.linalg.cholesky(np.linalg.inv(form)).T
        feedback /= feedback.diagonal()[:, None]
        places.append(number)
        forms.append(form.astype(np.float32))
        feedbacks.append(feedback.astype(np.float32))
    shape = (0, 0, 0)
    return Moments(
        number + 1,
        np.array(places, np.intp),
        np.stack(forms) if forms else np.empty(shape, np.float32),
        np.stack(feedbacks) if forms else np.empty(shape, np.float32),
    )


class Grid(NamedTuple):
    """What codes stand for: offset + step * values[code], [size, groups, rows] each."""

    offset: F32
    step: F32
    inverse: F32
    """Of the step; 0 where it is 0."""
    values: F32
    borders: F32 | None
    """Between neighbouring values; None if the values are 0, 1, 2, ..."""

    def nearest(self, column: int, weights: F32) -> F32:
        """The nearest weights that codes of a column stand for, [groups, rows]."""
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


def refined(name: str, rows: F32, blocks: U8, moments: Moments, sweeps: int = 2) -> U8:
    """The blocks with better codes; a row keeps its codes in a group of columns if none are better.

    rows float32 [n, cols] as they were before quantizing; blocks uint8 [n, row_bytes] of the format
    `name`, one of LAYOUTS; `moments` of all columns.
    """
    if not len(moments.places):
        return blocks
    step = max(1, _AT_ONCE // len(moments.places))
    parts = [slice(start, start + step) for start in range(0, len(rows), step)]
    return np.concatenate([_refined(name, rows[p], blocks[p], moments, sweeps) for p in parts])


def _refined(name: str, rows: F32, blocks: U8, moments: Moments, sweeps: int) -> U8:
    codes = read_codes(name, blocks)
    x, old = grouped(rows, moments), grouped(FORMATS[name].dequantize(blocks), moments)
    offset, step = (grouped(table, moments) for table in offsets_and_steps(name, blocks))
    grid = _grid(name, offset, step)
    new = with_feedback(x, grid, moments.feedback)
    descend(x, new, grid, moments.forms, sweeps)
    better = quadratic_forms(x - new, moments) < quadratic_forms(x - old, moments)
    chosen = np.where(better & (step != 0), grid.codes(new), grouped(codes, moments))
    by_group = codes.reshape(len(rows), moments.groups, -1)
    by_group[:, moments.places] = chosen.transpose(2, 1, 0)
    return with_codes(name, blocks, codes)


def grouped(table: NDArray[Number], moments: Moments) -> NDArray[Number]:
    """A table [rows, cols] as [size, known groups, rows]."""
    by_group = table.reshape(len(table), moments.groups, -1)
    return np.ascontiguousarray(by_group[:, moments.places].transpose(2, 1, 0))


def quadratic_forms(errors: F32, moments: Moments) -> F32:
    """Of errors [size, groups, rows]: [groups, rows]."""
    sums: F32 = np.einsum("igr,igr->gr", errors, _products(moments.forms, errors))
    return sums


def output_error(errors: F32, moments: Moments) -> float:
    """The sum of the quadratic forms of errors [rows, cols]; groups without inputs count as 0."""
    return float(quadratic_forms(grouped(errors, moments), moments).sum(dtype=np.float64))


def _grid(name: str, offset: F32, step: F32) -> Grid:
    layout = LAYOUTS[name]
    if layout.values is None:
        values, borders = np.arange(layout.top + 1, dtype=np.float32), None
    else:
        values, borders = layout.values, (layout.values[1:] + layout.values[:-1]) / np.float32(2)
    return Grid(offset, step, reciprocal(step), values, borders)


def _products(matrices: F32, table: F32) -> F32:
    """[groups, m, k] times [k, groups, rows]: [m, groups, rows]."""
    product: F32 = np.matmul(matrices, table.transpose(1, 0, 2))
    return product.transpose(1, 0, 2)


def with_feedback(x: F32, grid: Grid, feedback: F32) -> F32:
    """Round column after column, each error spread over the columns after it."""
    left = x.copy()
    rounded = np.empty_like(x)
    for start in range(0, len(x), _TOGETHER):
        stop = min(start + _TOGETHER, len(x))
        errors = np.empty((stop - start, *x.shape[1:]), np.float32)
        for column in range(start, stop):
            rounded[column] = grid.nearest(column, left[column])
            error = np.subtract(left[column], rounded[column], out=errors[column - start])
            spread = feedback[:, column, column + 1 : stop].T[:, :, None]
            left[column + 1 : stop] -= spread * error
        after = feedback[:, start:stop, stop:].transpose(0, 2, 1)
        left[stop:] -= _products(after, errors)
    return rounded


def descend(x: F32, rounded: F32, grid: Grid, forms: F32, sweeps: int) -> None:
    """Let each column of `rounded` take its best value given the others, in place."""
    slope = _products(forms, x - rounded)
    for _ in range(sweeps):
        for start in range(0, len(x), _TOGETHER):
            stop = min(start + _TOGETHER, len(x))
            near = slope[start:stop].copy()
            changes = np.empty_like(near)
            for column in range(start, stop):
                place = column - start
                best = near[place] / forms[:, column, column, None]
                best += rounded[column]
                best = grid.nearest(column, best)
                change = np.subtract(best, rounded[column], out=changes[place])
                rounded[column] = best
                near[place + 1 :] -= forms[:, column, column + 1 : stop].T[:, :, None] * change
            slope -= _products(forms[:, :, start:stop], changes)
