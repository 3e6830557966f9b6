"""Second moments of the inputs that the rows of a matrix meet, ready for the choice of codes.

Arrays of weights are [size, groups, rows], with the `size` columns of a group first: groups are
independent, so the first columns of all groups are rounded at once, then the second ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .columns import F32

Number = TypeVar("Number", bound=np.number[Any])


class Moments(NamedTuple):
    """Second moments of the inputs of a matrix."""

    groups: int
    """All groups of columns, of equal size."""
    places: NDArray[np.intp]
    """The groups whose codes are chosen, [known]; the others had no input but zeros."""
    forms: F32
    """[known, size, size], with the damping."""
    feedback: F32
    """[known, size, size], upper triangular: how a column's error is spread over those after it."""
    remaining: F32
    """[known, size]: how much a column's squared error counts once it is spread so."""


def prepared(
    second_moments: Iterable[F32 | None], shrinkage: float = 0.5, damping: float = 0.01
) -> Moments:
    """The moments [size, size] of each group, made safe for texts other than theirs.

    Entries off the diagonal are multiplied by 1 - `shrinkage`; `damping` times the mean diagonal is
    added to the diagonal (at least 1e-7 of it, so that the inverse exists). A group of None keeps
    its codes. Raises numpy's LinAlgError for a matrix that is not one of second moments.
    """
    places, forms, feedbacks, remaining = [], [], [], []
    number = -1
    for number, moments in enumerate(second_moments):
        if moments is None or not (mean := np.trace(moments, dtype=np.float64) / len(moments)):
            continue
        form = moments * np.float64(1 - shrinkage)
        np.fill_diagonal(form, moments.diagonal() + max(damping, 1e-7) * mean)
        feedback = np.linalg.cholesky(np.linalg.inv(form)).T
        remaining.append(np.square(1 / feedback.diagonal()).astype(np.float32))
        feedback /= feedback.diagonal()[:, None]
        places.append(number)
        forms.append(form.astype(np.float32))
        feedbacks.append(feedback.astype(np.float32))
    if not places:
        none = np.empty((0, 1, 1), np.float32)
        return Moments(number + 1, np.empty(0, np.intp), none, none, none[:, 0])
    return Moments(
        number + 1,
        np.array(places, np.intp),
        np.stack(forms),
        np.stack(feedbacks),
        np.stack(remaining),
    )


def grouped(table: NDArray[Number], moments: Moments) -> NDArray[Number]:
    """A table [rows, cols] as [size, known groups, rows]."""
    by_group = table.reshape(len(table), moments.groups, -1)
    return np.ascontiguousarray(by_group[:, moments.places].transpose(2, 1, 0))


def products(matrices: F32, table: F32) -> F32:
    """[groups, m, k] times [k, groups, rows]: [m, groups, rows]."""
    product: F32 = np.matmul(matrices, table.transpose(1, 0, 2))
    return product.transpose(1, 0, 2)


def quadratic_forms(errors: F32, moments: Moments) -> F32:
    """Of errors [size, groups, rows]: [groups, rows]."""
    sums: F32 = np.einsum("igr,igr->gr", errors, products(moments.forms, errors))
    return sums


def output_error(errors: F32, moments: Moments) -> float:
    """The sum of the quadratic forms of errors [rows, cols]; groups without inputs count as 0."""
    return float(quadratic_forms(grouped(errors, moments), moments).sum(dtype=np.float64))
