"""Rounding 8 weights at once to the points of an i-quant's grid and their signs."""

from __future__ import annotations

import numpy as np

from .columns import F32, U8
from .joint_rounding import Codes
from .moments import Moments, grouped
from .point_planes import (
    POINT_LAYOUTS,
    U32,
    offsets_and_units,
    packed,
    point_values,
    read_points,
    with_points,
)

_AT_ONCE = 512
"""Vectors whose distances from all points are computed at once."""


class PointChoices:
    """Weights are offset + unit * value of a point, or that with their signs. See `Choices`."""

    length = 8

    def __init__(self, name: str, blocks: U8, moments: Moments) -> None:
        """Of blocks uint8 [rows, row_bytes] of the format `name`, one of POINT_LAYOUTS."""
        self._name, self._blocks = name, blocks
        offset, unit = offsets_and_units(name, blocks)
        self._offset, self._unit = grouped(offset, moments), grouped(unit, moments)[::8]
        signs = POINT_LAYOUTS[name].signs
        self._has_signs, self._even = signs is not None, signs is not None and signs.width == 7
        self._values = point_values(name)
        squares = np.square(self._values)
        self._features = np.ascontiguousarray(np.concatenate([squares, -2 * self._values], 1).T)

    def nearest(self, columns: slice, weights: F32, importance: F32) -> F32:
        """See Choices.nearest. With an even number of minus signs, where the format wants that."""
        return self._nearest(columns, weights, importance)[0]

    def _nearest(self, columns: slice, weights: F32, importance: F32) -> tuple[F32, U32]:
        """The values, and their codes [groups, rows]."""
        unit = self._unit[columns.start // 8]
        sizes = weights - self._offset[columns]
        counts = (importance / importance.max(axis=1, keepdims=True)).T[:, :, None]
        counts = np.broadcast_to(counts, sizes.shape)
        negative = np.zeros(sizes.shape, np.bool_)
        if self._has_signs:
            negative = sizes < 0
            np.abs(sizes, out=sizes)
        if self._even:
            groups, rows = np.nonzero(np.bitwise_xor.reduce(negative, axis=0))
            some = sizes[:, groups, rows]
            least = (counts[:, groups, rows] * some * some).argmin(axis=0)
            sizes[least, groups, rows] *= np.float32(-1)
            negative[least, groups, rows] ^= True
        points = []
        for start in range(0, 8, self._values.shape[1]):
            part = slice(start, start + self._values.shape[1])
            points.append(self._nearest_points(sizes[part], counts[part], unit))
            sizes[part] = np.moveaxis(self._values[points[-1]], -1, 0)
        signs = np.packbits(negative, axis=0, bitorder="little")[0]
        values = np.where(negative, -sizes, sizes)
        values *= unit
        values += self._offset[columns]
        return values, packed(np.stack(points, axis=-1), signs)

    def _nearest_points(self, sizes: F32, counts: F32, unit: F32) -> U32:
        """The number of the point nearest to sizes [length, groups, rows], [groups, rows]."""
        # The sum of counts * (unit * value - size)**2, less what all points share, divided by unit.
        factors = np.concatenate([counts * unit, counts * sizes]).reshape(2 * len(sizes), -1).T
        nearest = np.empty(len(factors), np.uint32)
        for start in range(0, len(factors), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            nearest[some] = (factors[some] @ self._features).argmin(axis=1)
        return nearest.reshape(unit.shape)

    def read(self) -> U32:
        """See Choices.read."""
        return read_points(self._name, self._blocks)

    def codes(self, weights: F32, old: Codes) -> Codes:
        """See Choices.codes."""
        alike = np.ones((weights.shape[1], 8), np.float32)
        vectors = [slice(start, start + 8) for start in range(0, len(weights), 8)]
        found = np.stack([self._nearest(some, weights[some], alike)[1] for some in vectors])
        return np.where(self._unit != 0, found, old)

    def write(self, codes: Codes) -> U8:
        """See Choices.write."""
        return with_points(self._name, self._blocks, codes.astype(np.uint32))
