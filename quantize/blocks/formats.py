"""BlockFormat, and the one table of every block format that this project writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import (
    float_types,
    iq1_m,
    iq1_s,
    iq2,
    iq3,
    iq4,
    legacy,
    mxfp4,
    q1_0,
    q2_k,
    q3_k,
    q4_k,
    q6_k,
    ternary,
)
from .columns import Tuning, tuned

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

Quantize = Callable[[F32, "F32 | None"], U8]
"""(rows float32 [n, cols] C-contiguous, importance float32 [cols] or None) -> uint8 [n, row_bytes].

Every row is quantized on its own, so callers may split rows over calls and threads as they like.
`importance` is one weight per column (an imatrix row); None is the plain search.
"""

Dequantize = Callable[[U8], F32]
"""uint8 [n, row_bytes] C-contiguous -> float32 [n, cols]."""


class Step(NamedTuple):
    """Quantizing to a format, with an importance matrix or without."""

    format: str
    weighted: bool


Kernels = Mapping[Step, Quantize]
"""Functions to use instead of those in FORMATS; they must write the same bytes."""

NUMPY: Kernels = {}
"""Nothing but our own."""


@dataclass(frozen=True)
class TunedQuantize:
    """Our own function of a format, with another tuning; can be sent to a worker process."""

    format: str
    tuning: Tuning

    def __call__(self, rows: F32, importance: F32 | None) -> U8:
        """The same blocks."""
        with tuned(self.tuning):
            return FORMATS[self.format].quantize(rows, importance)


@dataclass(frozen=True)
class BlockFormat:
    """One ggml tensor type: its name, its size, and its maths as two plain functions."""

    name: str
    type_id: int
    block_len: int
    block_bytes: int
    quantize: Quantize
    dequantize: Dequantize
    needs_importance: bool = False
    """Whether `quantize` raises RecipeError without importance."""

    def row_bytes(self, cols: int) -> int:
        """Bytes of one row of `cols` weights; `cols` must be a multiple of `block_len`."""
        if cols % self.block_len:
            raise ValueError(
                f"{cols} columns are not a multiple of {self.name}'s block of {self.block_len}"
            )
        return cols // self.block_len * self.block_bytes


FORMATS: dict[str, BlockFormat] = {
    codec.name: codec
    for codec in (
        BlockFormat("F32", 0, 1, 4, float_types.quantize_f32, float_types.dequantize_f32),
        BlockFormat("F16", 1, 1, 2, float_types.quantize_f16, float_types.dequantize_f16),
        BlockFormat("BF16", 30, 1, 2, float_types.quantize_bf16, float_types.dequantize_bf16),
        BlockFormat("Q8_0", 8, 32, 34, legacy.quantize_q8_0, legacy.dequantize_q8_0),
        BlockFormat("Q4_0", 2, 32, 18, legacy.quantize_q4_0, legacy.dequantize_q4_0),
        BlockFormat("Q4_1", 3, 32, 20, legacy.quantize_q4_1, legacy.dequantize_q4_1),
        BlockFormat("Q5_0", 6, 32, 22, legacy.quantize_q5_0, legacy.dequantize_q5_0),
        BlockFormat("Q5_1", 7, 32, 24, legacy.quantize_q5_1, legacy.dequantize_q5_1),
        BlockFormat("Q2_K", 10, 256, 84, q2_k.quantize_q2_k, q2_k.dequantize_q2_k),
        BlockFormat("Q3_K", 11, 256, 110, q3_k.quantize_q3_k, q3_k.dequantize_q3_k),
        BlockFormat("Q4_K", 12, 256, 144, q4_k.quantize_q4_k, q4_k.dequantize_q4_k),
        BlockFormat("Q5_K", 13, 256, 176, q4_k.quantize_q5_k, q4_k.dequantize_q5_k),
        BlockFormat("Q6_K", 14, 256, 210, q6_k.quantize_q6_k, q6_k.dequantize_q6_k),
        BlockFormat("IQ1_S", 19, 256, 50, iq1_s.quantize_iq1_s, iq1_s.dequantize_iq1_s, True),
        BlockFormat("IQ1_M", 29, 256, 56, iq1_m.quantize_iq1_m, iq1_m.dequantize_iq1_m),
        BlockFormat("IQ2_XXS", 16, 256, 66, iq2.quantize_iq2_xxs, iq2.dequantize_iq2_xxs, True),
        BlockFormat("IQ2_XS", 17, 256, 74, iq2.quantize_iq2_xs, iq2.dequantize_iq2_xs, True),
        BlockFormat("IQ2_S", 22, 256, 82, iq2.quantize_iq2_s, iq2.dequantize_iq2_s),
        BlockFormat("IQ3_XXS", 18, 256, 98, iq3.quantize_iq3_xxs, iq3.dequantize_iq3_xxs),
        BlockFormat("IQ3_S", 21, 256, 110, iq3.quantize_iq3_s, iq3.dequantize_iq3_s),
        BlockFormat("IQ4_NL", 20, 32, 18, iq4.quantize_iq4_nl, iq4.dequantize_iq4_nl),
        BlockFormat("IQ4_XS", 23, 256, 136, iq4.quantize_iq4_xs, iq4.dequantize_iq4_xs),
        BlockFormat("Q1_0", 41, 128, 18, q1_0.quantize_q1_0, q1_0.dequantize_q1_0),
        BlockFormat("TQ1_0", 34, 256, 54, ternary.quantize_tq1_0, ternary.dequantize_tq1_0),
        BlockFormat("TQ2_0", 35, 256, 66, ternary.quantize_tq2_0, ternary.dequantize_tq2_0),
        BlockFormat("MXFP4", 39, 32, 17, mxfp4.quantize_mxfp4, mxfp4.dequantize_mxfp4),
    )
}
