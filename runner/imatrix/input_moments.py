"""Second moments of the inputs of weights, added up while a model runs."""

from __future__ import annotations

from collections.abc import Iterator

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.blas import one_blas_thread
from franken_gguf.quantize.tensor_types.second_moments import MomentSums
from franken_gguf.runner.engine.matmul_inputs import MatmulInput

_BLOCK = 32
"""No quantized type fits rows whose length is not a multiple of this."""


class InputMoments:
    """The sums over all evaluations, to which inputs are added while graphs are computed."""

    def __init__(self) -> None:
        self.weights: dict[str, MomentSums] = {}
        """By the weight's name; weights with the same input, such as gate and up, share them."""
        self._source = 0, False
        self._newest: MomentSums | None = None

    def add(self, entry: MatmulInput) -> None:
        """Add one multiplication's input."""
        cols = entry.rows.shape[-1]
        if cols % _BLOCK:
            return
        source = entry.source, entry.experts is None
        is_same = source == self._source
        if entry.weight not in self.weights:
            shared = self._newest if is_same else None
            self.weights[entry.weight] = shared or MomentSums.zeros(entry.matrices, cols)
        sums = self.weights[entry.weight]
        if is_same and sums is self._newest:
            return
        self._source, self._newest = source, sums
        with one_blas_thread():
            for matrix, rows in enumerate(_by_matrix(entry)):
                _add(sums, matrix, rows)


def _add(sums: MomentSums, matrix: int, rows: F32) -> None:
    """Add the inputs (rows, cols) of one matrix."""
    sums.counts[matrix] += len(rows)
    size = sums.sums.shape[-1]
    for group, total in enumerate(sums.sums[matrix]):
        columns = rows[:, group * size : (group + 1) * size]
        total += columns.T @ columns


def _by_matrix(entry: MatmulInput) -> Iterator[F32]:
    """The inputs of each matrix, (rows, cols)."""
    if entry.experts is None:
        yield from entry.rows.reshape(entry.matrices, -1, entry.rows.shape[-1])
        return
    for expert in range(entry.matrices):
        token, slot = (entry.experts == expert).nonzero()
        yield entry.rows[token, slot % entry.rows.shape[1]]
