"""Where the grid points and signs of an i-quant lie in its bytes: read them, replace them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import F32, U8
from .formats import FORMATS
from .grids import grid
from .iq2 import MAGNITUDES as IQ2_MAGNITUDES
from .iq3 import MAGNITUDES as IQ3_MAGNITUDES
from .signs import even_signs

U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]

_FIRST_POINT, _POINT_BITS = 8, 12
"""Of a number that stands for 8 weights: above their signs, for each point."""


class Bits(NamedTuple):
    """`width` bits of each number; the lowest of a byte comes first.

    Number k begins at bit first + k // run * stride + k % run * step of the block.
    """

    first: int
    width: int
    step: int
    run: int = 32
    stride: int = 0

    def places(self, count: int) -> NDArray[np.intp]:
        """Of the bits of the first `count` numbers, [count, width]."""
        k = np.arange(count)[:, None]
        starts = self.first + k // self.run * self.stride + k % self.run * self.step
        return starts + np.arange(self.width)


class PointLayout(NamedTuple):
    """The points and signs of a format: 8 weights have one sign for each, and 1 or 2 points."""

    points: tuple[Bits, ...]
    """The lowest bits of a point first."""
    signs: Bits | None
    """Of 8 or 7 bits, the 8th then makes the number of minus signs even; None if points have
    signs."""
    grid: str
    magnitudes: F32
    """What the codes of a point stand for, in units of the scale."""


TERNARY = np.array([-1, 0, 1], np.float32)
POINT_LAYOUTS: Mapping[str, PointLayout] = {
    "IQ2_XXS": PointLayout(
        (Bits(16, 8, 8, run=4, stride=64),),
        Bits(48, 7, 7, run=4, stride=64),
        "IQ2_XXS",
        IQ2_MAGNITUDES,
    ),
    "IQ2_XS": PointLayout((Bits(16, 9, 16),), Bits(25, 7, 16), "IQ2_XS", IQ2_MAGNITUDES),
    "IQ2_S": PointLayout(
        (Bits(16, 8, 8), Bits(8 * 66, 2, 2)), Bits(8 * 34, 8, 8), "IQ2_S", IQ2_MAGNITUDES
    ),
    "IQ3_XXS": PointLayout(
        (Bits(16, 8, 8, run=64),),
        Bits(8 * 66, 7, 7, run=4, stride=32),
        "IQ3_XXS",
        IQ3_MAGNITUDES["IQ3_XXS"],
    ),
    "IQ3_S": PointLayout(
        (Bits(16, 8, 8, run=64), Bits(8 * 66, 1, 1, run=64)),
        Bits(8 * 74, 8, 8),
        "IQ3_S",
        IQ3_MAGNITUDES["IQ3_S"],
    ),
    "IQ1_S": PointLayout(
        (Bits(16, 8, 8), Bits(8 * 34, 3, 3, run=4, stride=16)), None, "IQ1_S", TERNARY
    ),
    "IQ1_M": PointLayout((Bits(0, 8, 8), Bits(8 * 32, 3, 4)), None, "IQ1_S", TERNARY),
}
"""Of the formats whose codes are points of a grid."""


@cache
def point_values(name: str) -> F32:
    """What each point of a format stands for in units of the scale, float32 [points, 4 or 8]."""
    layout = POINT_LAYOUTS[name]
    values: F32 = layout.magnitudes[grid(layout.grid).codes]
    return values


def packed(points: NDArray[np.integer[Any]], signs: U8 | np.uint8) -> U32:
    """One number for 8 weights, of their points [..., 1 or 2] and sign bits [...]."""
    numbers = np.asarray(signs, np.uint32)
    for k in range(points.shape[-1]):
        numbers = numbers | points[..., k].astype(np.uint32) << np.uint32(
            _FIRST_POINT + _POINT_BITS * k
        )
    return numbers


def read_points(name: str, blocks: U8) -> U32:
    """Points and signs of uint8 [rows, row_bytes], uint32 [rows, cols / 8] as `packed` gives them.

    Bit i is set if weight i of the 8 is negative, and none of them where points have signs.
    """
    layout, bits = POINT_LAYOUTS[name], _bits(name, blocks)
    each = 8 // point_values(name).shape[1]
    points = np.zeros((len(bits), 32 * each), np.uint16)
    low = 0
    for part in layout.points:
        points |= _numbers(bits, part, 32 * each) << np.uint16(low)
        low += part.width
    signs = np.zeros((len(bits), 32), np.uint8)
    if layout.signs:
        signs = _numbers(bits, layout.signs, 32).astype(np.uint8)
        if layout.signs.width == 7:
            signs = even_signs(signs)
    return packed(points.reshape(-1, 32, each), signs).reshape(len(blocks), -1)


def with_points(name: str, blocks: U8, numbers: U32) -> U8:
    """The blocks with other points and signs, as `read_points` gives them, and the same scales."""
    layout, bits = POINT_LAYOUTS[name], _bits(name, blocks)
    each = 8 // point_values(name).shape[1]
    shifts = np.arange(each, dtype=np.uint32) * np.uint32(_POINT_BITS) + np.uint32(_FIRST_POINT)
    points = (numbers[..., None] >> shifts).reshape(len(bits), -1)
    low = 0
    for part in layout.points:
        _set_numbers(bits, part, points >> np.uint32(low))
        low += part.width
    if layout.signs:
        _set_numbers(bits, layout.signs, numbers.reshape(len(bits), -1))
    return np.packbits(bits, axis=1, bitorder="little").reshape(blocks.shape)


def offsets_and_units(name: str, blocks: U8) -> tuple[F32, F32]:
    """A weight is offset + unit * value of its point, or that with its sign; [rows, cols] each."""
    codec, values = FORMATS[name], point_values(name)
    vectors = blocks.shape[1] // codec.block_bytes * 32

    def all_at(point: int) -> F32:
        numbers = packed(np.full((len(blocks), vectors, 8 // values.shape[1]), point), np.uint8(0))
        return codec.dequantize(with_points(name, blocks, numbers))

    if POINT_LAYOUTS[name].signs:
        first = all_at(0)
        return np.zeros_like(first), first / np.tile(values[0], first.shape[1] // len(values[0]))
    zeros, ones = (int(np.flatnonzero((values == value).all(axis=1))[0]) for value in (0, 1))
    low = all_at(zeros)
    return low, all_at(ones) - low


def _bits(name: str, blocks: U8) -> U8:
    table = blocks.reshape(-1, FORMATS[name].block_bytes)
    return np.unpackbits(table, axis=1, bitorder="little")


def _numbers(bits: U8, part: Bits, count: int) -> U16:
    powers = np.uint16(1) << np.arange(part.width, dtype=np.uint16)
    numbers: U16 = (bits[:, part.places(count)] * powers).sum(axis=2, dtype=np.uint16)
    return numbers


def _set_numbers(bits: U8, part: Bits, numbers: NDArray[np.integer[Any]]) -> None:
    shifts = np.arange(part.width, dtype=numbers.dtype)
    bits[:, part.places(numbers.shape[1])] = numbers[..., None] >> shifts & numbers.dtype.type(1)
