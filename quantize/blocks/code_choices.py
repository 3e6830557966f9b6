"""Rounding to the codes of a format that has one for each weight."""

from __future__ import annotations

import numpy as np

from .code_planes import LAYOUTS, offsets_and_steps, read_codes, with_codes
from .columns import F32, U8, reciprocal
from .joint_rounding import Codes
from .moments import Moments, grouped


class CodeChoices:
    """A weight is offset + step * values[code]. See `joint_rounding.Choices`."""

    length = 1

    def __init__(self, name: str, blocks: U8, moments: Moments) -> None:
        """Of blocks uint8 [rows, row_bytes] of the format `name`, one of LAYOUTS."""
        self._name, self._blocks, layout = name, blocks, LAYOUTS[name]
        offset, step = offsets_and_steps(name, blocks)
        self._offset, self._step = grouped(offset, moments), grouped(step, moments)
        self._inverse = reciprocal(self._step)
        self._values = np.arange(layout.top + 1, dtype=np.float32)
        self._borders: F32 | None = None
        if layout.values is not None:
            self._values = layout.values
            self._borders = (layout.values[1:] + layout.values[:-1]) / np.float32(2)

    def nearest(self, columns: slice, weights: F32, importance: F32) -> F32:
        """See Choices.nearest."""
        codes: F32 = weights - self._offset[columns]
        codes *= self._inverse[columns]
        if self._borders is None:
            np.rint(codes, out=codes)
            np.maximum(codes, np.float32(0), out=codes)
            np.minimum(codes, self._values[-1], out=codes)
        else:
            codes[...] = self._values[np.searchsorted(self._borders, codes)]
        codes *= self._step[columns]
        codes += self._offset[columns]
        return codes

    def read(self) -> U8:
        """See Choices.read."""
        return read_codes(self._name, self._blocks)

    def codes(self, weights: F32, old: Codes) -> Codes:
        """See Choices.codes."""
        found = (weights - self._offset) * self._inverse
        if self._borders is None:
            codes: U8 = np.rint(found).clip(0, self._values[-1]).astype(np.uint8)
        else:
            codes = np.searchsorted(self._borders, found).astype(np.uint8)
        return np.where(self._step != 0, codes, old)

    def write(self, codes: Codes) -> U8:
        """See Choices.write."""
        return with_codes(self._name, self._blocks, codes.astype(np.uint8))
