"""BlockFormat, and the one table of every block format that this project writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

Quantize = Callable[[F32, "F32 | None"], U8]
"""(rows float32 [n, cols] C-contiguous, importance float32 [cols] or None) -> uint8 [n, row_bytes].

Every row is quantized on its own, so callers may split rows over calls and threads as they like.
`importance` is one weight per column (an imatrix row); None is the plain search.
"""

Dequantize = Callable[[U8], F32]
"""uint8 [n, row_bytes] C-contiguous -> float32 [n, cols]."""


@dataclass(frozen=True)
class BlockFormat:
    """One ggml tensor type: its name, its size, and its maths as two plain functions."""

    name: str
    type_id: int
    block_len: int
    block_bytes: int
    quantize: Quantize
    dequantize: Dequantize

    def row_bytes(self, cols: int) -> int:
        """Bytes of one row of `cols` weights; `cols` must be a multiple of `block_len`."""
        if cols % self.block_len:
            raise ValueError(f"{cols} columns are no multiple of {self.name}'s {self.block_len}")
        return cols // self.block_len * self.block_bytes
