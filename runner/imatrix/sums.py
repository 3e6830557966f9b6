"""Sums of squared inputs, chunk by chunk, as llama.cpp's imatrix tool adds them up. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.tensor_types.imatrix_file import WeightSums
from franken_gguf.runner.engine.matmul_inputs import MatmulInput

F32 = NDArray[np.float32]


class BatchSums:
    """The sums of one evaluation, to which inputs are added while its graph is computed.

    Raises ValueError for inputs that are not finite.
    """

    def __init__(self) -> None:
        self.weights: dict[str, WeightSums] = {}
        """By the weight's name."""
        self._source = 0
        self._newest = WeightSums.zeros(0, 0, 0)

    def add(self, entry: MatmulInput) -> None:
        """Add one multiplication's input."""
        # Neighbours in the graph often have the same input: queries, keys and values; gate and up.
        if entry.source != self._source:
            self._source, self._newest = entry.source, sums_of(entry)
            if not np.isfinite(self._newest.sums).all():
                raise ValueError(f"{entry.weight!r} has infinite or NaN inputs")
        if entry.weight in self.weights:
            self.weights[entry.weight] += self._newest
        else:
            self.weights[entry.weight] = self._newest


def sums_of(entry: MatmulInput) -> WeightSums:
    """The squared inputs of one multiplication, summed by column and matrix."""
    if entry.experts is not None:
        return expert_sums(entry.rows, entry.experts, entry.matrices)
    rows = entry.rows.reshape(entry.matrices, -1, entry.rows.shape[-1])
    sums = np.stack([squares(matrix) for matrix in rows])
    return WeightSums(sums, np.array([rows.shape[1]]))


def expert_sums(rows: F32, experts: NDArray[np.int32], count: int) -> WeightSums:
    """Each expert's sums of squares over the (token, slot) pairs that were routed to it.

    `rows` are (tokens, 1 or slots, cols), `experts` (tokens, slots) of `count` experts. Raises
    ValueError for an expert beyond them.
    """
    if experts.size and not 0 <= experts.min() <= experts.max() < count:
        raise ValueError(f"an expert of {count} is {experts.max()}")
    # The threads of a matrix product would still be spinning while llama.cpp continues.
    sums = np.zeros((count, rows.shape[2]))
    for expert in range(count):
        token, slot = np.nonzero(experts == expert)
        if len(token):
            sums[expert] = squares(rows[token, slot % rows.shape[1]])
    return WeightSums(sums, np.bincount(experts.reshape(-1), minlength=count))


def squares(rows: F32) -> NDArray[np.float64]:
    """The sum of the squares of each column of (rows, cols)."""
    sums: NDArray[np.float64] = np.einsum("ij,ij->j", rows, rows).astype(np.float64)
    return sums


def added(total: Mapping[str, WeightSums], new: Mapping[str, WeightSums]) -> dict[str, WeightSums]:
    """The sums of more chunks added to those before them."""
    sums = dict(total)
    for name, weight in new.items():
        sums[name] = sums[name] + weight if name in sums else weight
    return sums
