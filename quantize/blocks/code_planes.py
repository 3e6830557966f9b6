"""Where the codes of a block lie in its bytes: read them, replace them, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .columns import F32, U8
from .formats import FORMATS
from .iq4 import VALUES


class Plane(NamedTuple):
    """Bytes that hold `bits` bits of each code, the first planes of a format the lowest bits.

    Byte l of group g holds the codes (g * fields + f) * length + l for each of its 8 / bits fields
    f, the first in the lowest bits.
    """

    start: int
    groups: int
    length: int
    bits: int

    @property
    def place(self) -> slice:
        """Of the bytes in a block."""
        return slice(self.start, self.start + self.groups * self.length)

    @property
    def shifts(self) -> U8:
        """Of the fields, [fields, 1]."""
        return np.arange(0, 8, self.bits, dtype=np.uint8)[:, None]


class Layout(NamedTuple):
    """The codes of a format. A weight is offset + step * code, or step * values[code]."""

    planes: tuple[Plane, ...]
    values: F32 | None = None

    @property
    def top(self) -> int:
        """The largest code."""
        return int((1 << sum(plane.bits for plane in self.planes)) - 1)


LAYOUTS: Mapping[str, Layout] = {
    "Q4_0": Layout((Plane(2, 1, 16, 4),)),
    "Q4_1": Layout((Plane(4, 1, 16, 4),)),
    "Q5_0": Layout((Plane(6, 1, 16, 4), Plane(2, 4, 1, 1))),
    "Q5_1": Layout((Plane(8, 1, 16, 4), Plane(4, 4, 1, 1))),
    "Q2_K": Layout((Plane(16, 2, 32, 2),)),
    "Q3_K": Layout((Plane(32, 2, 32, 2), Plane(0, 1, 32, 1))),
    "Q4_K": Layout((Plane(16, 4, 32, 4),)),
    "Q5_K": Layout((Plane(48, 4, 32, 4), Plane(16, 1, 32, 1))),
    "Q6_K": Layout((Plane(0, 2, 64, 4), Plane(128, 2, 32, 2))),
    "IQ4_NL": Layout((Plane(2, 1, 16, 4),), VALUES),
    "IQ4_XS": Layout((Plane(8, 8, 16, 4),), VALUES),
}
"""Of the formats whose codes can be chosen one by one."""


def read_codes(name: str, blocks: U8) -> U8:
    """The codes of uint8 [rows, row_bytes], as uint8 [rows, cols]."""
    codec = FORMATS[name]
    table = blocks.reshape(-1, codec.block_bytes)
    codes = np.zeros((len(table), codec.block_len), np.uint8)
    low = 0
    for plane in LAYOUTS[name].planes:
        packed = table[:, plane.place].reshape(-1, plane.groups, 1, plane.length)
        bits = packed >> plane.shifts & np.uint8((1 << plane.bits) - 1)
        codes |= bits.reshape(codes.shape) << np.uint8(low)
        low += plane.bits
    return codes.reshape(len(blocks), -1)


def with_codes(name: str, blocks: U8, codes: U8) -> U8:
    """The blocks with other codes, uint8 [rows, cols], and the same scales and minimums."""
    codec = FORMATS[name]
    table = blocks.reshape(-1, codec.block_bytes).copy()
    low = 0
    for plane in LAYOUTS[name].planes:
        bits = codes >> np.uint8(low) & np.uint8((1 << plane.bits) - 1)
        fields = bits.reshape(len(table), plane.groups, 8 // plane.bits, plane.length)
        packed = np.bitwise_or.reduce(fields << plane.shifts, axis=2)
        table[:, plane.place] = packed.reshape(len(table), -1)
        low += plane.bits
    return table.reshape(blocks.shape)


def offsets_and_steps(name: str, blocks: U8) -> tuple[F32, F32]:
    """What a code of 0 stands for, and how much each further one adds; float32 [rows, cols].

    For a format with a table of values, 0 and the factor of these values.
    """
    codec, values = FORMATS[name], LAYOUTS[name].values
    shape = (len(blocks), blocks.shape[1] // codec.block_bytes * codec.block_len)
    if values is not None:
        one = np.full(shape, np.flatnonzero(values == 1)[0], np.uint8)
        return np.zeros(shape, np.float32), codec.dequantize(with_codes(name, blocks, one))
    low = codec.dequantize(with_codes(name, blocks, np.zeros(shape, np.uint8)))
    return low, codec.dequantize(with_codes(name, blocks, np.ones(shape, np.uint8))) - low
