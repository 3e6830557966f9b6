"""The codes of blocks of any format whose codes can be chosen: read, written, or left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.code_planes import LAYOUTS, read_codes, with_codes
from franken_gguf.quantize.blocks.point_planes import read_points, with_points

U8 = NDArray[np.uint8]


def codes_of(name: str, blocks: U8) -> NDArray[np.integer[Any]]:
    """A number for each weight, or for 8 of them where they are points of a grid."""
    return read_codes(name, blocks) if name in LAYOUTS else read_points(name, blocks)


def without_codes(name: str, blocks: U8) -> U8:
    """The blocks with all codes 0: what is left are scales, minimums and shifts."""
    none = np.zeros_like(codes_of(name, blocks))
    write: Any = with_codes if name in LAYOUTS else with_points
    written: U8 = write(name, blocks, none)
    return written
