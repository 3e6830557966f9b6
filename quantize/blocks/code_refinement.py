"""Chooses the codes of a row together, under the second moments of the inputs they meet.

A matrix W that is rounded to V changes its outputs for inputs x by (W - V) x; the mean square of
that is the quadratic form of each row of W - V under the second moments, the mean of x xT. ggml
rounds each weight by itself, or the 8 of a grid point; here the columns are rounded together.
Scales and minimums stay.
"""

from __future__ import annotations

import numpy as np

from .code_choices import CodeChoices
from .code_planes import LAYOUTS
from .columns import F32, U8
from .formats import FORMATS
from .joint_rounding import Choices, descend, with_feedback
from .moments import Moments, grouped, quadratic_forms
from .point_choices import PointChoices
from .point_planes import POINT_LAYOUTS

REFINABLE = frozenset(LAYOUTS) | frozenset(POINT_LAYOUTS)
"""The formats whose codes can be chosen."""
_AT_ONCE = 2048
"""Weights of one column that are worked on at once, in all groups."""


def refined(name: str, rows: F32, blocks: U8, moments: Moments, sweeps: int = 2) -> U8:
    """The blocks with better codes; a row keeps its codes in a group of columns if none are better.

    rows float32 [n, cols] as they were before quantizing; blocks uint8 [n, row_bytes] of the format
    `name`, one of REFINABLE; `moments` of all columns.
    """
    size = rows.shape[1] // moments.groups
    if not len(moments.places) or (name in POINT_LAYOUTS and size % PointChoices.length):
        return blocks
    step = max(1, _AT_ONCE // len(moments.places))
    parts = [slice(start, start + step) for start in range(0, len(rows), step)]
    return np.concatenate([_refined(name, rows[p], blocks[p], moments, sweeps) for p in parts])


def _refined(name: str, rows: F32, blocks: U8, moments: Moments, sweeps: int) -> U8:
    kind = PointChoices if name in POINT_LAYOUTS else CodeChoices
    choices: Choices = kind(name, blocks, moments)
    x, old = grouped(rows, moments), grouped(FORMATS[name].dequantize(blocks), moments)
    new = with_feedback(x, choices, moments)
    descend(x, new, choices, moments, sweeps)
    better = quadratic_forms(x - new, moments) < quadratic_forms(x - old, moments)
    codes = choices.read()
    before = grouped(codes, moments)
    chosen = np.where(better, choices.codes(new, before), before)
    by_group = codes.reshape(len(rows), moments.groups, -1)
    by_group[:, moments.places] = chosen.transpose(2, 1, 0)
    return choices.write(codes)
