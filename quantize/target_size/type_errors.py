"""How far every type is off for each tensor, from a sample of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from franken_gguf.quantize.blocks.formats import F32, FORMATS
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.output.jobs import smallest_job
from franken_gguf.quantize.tensor_types.type_presets import Type

_SAMPLE_WEIGHTS = 1 << 16
_RUN_ROWS = 8
"""Rows read in one piece; a tensor with more experts than runs has shorter ones."""
SLOW = ("IQ1_", "IQ2_", "IQ3_")
"""Types that take ten times as long as the others; they are tried on every fourth run of rows."""
_SLOW_STEP = 4


@dataclass(frozen=True)
class TypeErrors:
    """A worker for tensors by their index: `types[index]` are tried on each.

    `importances` are those of the imatrix, by name: float32 [matrices, cols].
    """

    source: Source
    importances: Mapping[str, F32]
    types: Sequence[tuple[Type, ...]]

    def __call__(self, index: int) -> dict[Type, float]:
        """By type, sum(w (x - q)²) / sum(w x²) over the sample; w is the importance, or 1."""
        tensor = self.source.tensors[index]
        importance = self.importances.get(tensor.name)
        off, total = dict.fromkeys(self.types[index], 0.0), dict.fromkeys(self.types[index], 0.0)
        for number, (matrix, rows) in enumerate(sample_rows(self.source, tensor, seed=index)):
            weights = None if importance is None else importance[matrix]
            square = weighted_square(rows, weights)
            for kind in off:
                if kind.name.startswith(SLOW) and number % _SLOW_STEP:
                    continue
                codec = FORMATS[kind.name]
                rounded = codec.dequantize(codec.quantize(rows, weights))
                off[kind] += weighted_square(rounded - rows, weights)
                total[kind] += square
        return {kind: off[kind] / total[kind] if total[kind] else 0.0 for kind in off}


def weighted_square(rows: F32, importance: F32 | None) -> float:
    """The sum of the squares, each column weighted by its importance."""
    columns = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
    return float(columns.sum() if importance is None else columns @ importance)


def sample_rows(source: Source, tensor: SourceTensor, seed: int) -> Iterator[tuple[int, F32]]:
    """Runs of rows at random places of each matrix: its number, float32 [rows, cols]."""
    rng = np.random.default_rng(seed)
    unit = smallest_job(tensor) // tensor.cols
    wanted = max(1, _SAMPLE_WEIGHTS // tensor.cols // len(tensor.pieces))
    for matrix, piece in enumerate(tensor.pieces):
        rows = piece.stop - piece.start
        run = min(_RUN_ROWS, wanted, unit if unit > 1 else rows)
        runs = max(1, min(wanted // run, rows // max(run, unit)))
        step = rows // runs
        for number in range(runs):
            length = max(run, unit)
            place = int(rng.integers(0, step - length + 1)) // unit * unit
            start = piece.start + number * step // unit * unit + place
            stored = source.read(tensor, piece, start, start + length)
            yield matrix, FORMATS[tensor.stored.name].dequantize(np.ascontiguousarray(stored[:run]))
