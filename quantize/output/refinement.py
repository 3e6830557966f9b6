"""Chooses a job's codes under the second moments of its matrix, which are kept for the next job."""

from __future__ import annotations

from franken_gguf.quantize.blocks.code_refinement import refined
from franken_gguf.quantize.blocks.formats import F32, U8
from franken_gguf.quantize.blocks.moments import Moments
from franken_gguf.quantize.common.blas import one_blas_thread
from franken_gguf.quantize.tensor_types.second_moments import WeightMoments


class Refiner:
    """Remembers the moments of one matrix; to be pickled before its first call."""

    def __init__(self) -> None:
        self._matrix: tuple[str, int] = "", 0
        self._moments: Moments | None = None

    def __call__(self, name: str, rows: F32, blocks: U8, weight: WeightMoments, matrix: int) -> U8:
        """The blocks, uint8 [rows, row_bytes] of the format `name`, with better codes.

        `rows` are float32 [rows, cols], of one matrix of the weight. Raises ImatrixError,
        ReadError.
        """
        with one_blas_thread():
            if self._moments is None or self._matrix != (weight.name, matrix):
                self._moments = None  # frees its memory before the next ones are read
                self._moments = weight.prepared(matrix)
                self._matrix = weight.name, matrix
            return refined(name, rows, blocks, self._moments)
