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
"""Types that take ten times as long as the others; they are tried on fewer runs of rows."""
_SLOW_STEP = 4
"""They are tried on every fourth run, and on all heavy ones."""
_HEAVY = 2.0
"""A run is heavy whose weighted square is more than this times the mean."""


@dataclass(frozen=True)
class Run:
    """Some rows of one matrix: float32 [rows, cols], the importance of each column or None."""

    rows: F32
    importance: F32 | None
    square: float
    """The weighted sum of the squares."""


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
        runs = []
        for matrix, rows in sample_rows(self.source, tensor, seed=index):
            weights = None if importance is None else importance[matrix]
            runs.append(Run(rows, weights, weighted_square(rows, weights)))
        return {kind: relative_error(kind, runs) for kind in self.types[index]}


def relative_error(kind: Type, runs: Sequence[Run]) -> float:
    """sum(w (x - q)²) / sum(w x²) of the type over the runs, estimated from some for slow types.

    A few runs may hold most of a tensor's weighted square, so these are tried for every type.
    """
    total = sum(run.square for run in runs)
    if not total:
        return 0.0
    limit = _HEAVY * total / len(runs)
    heavy = [run for run in runs if run.square > limit]
    light = [run for run in runs if run.square <= limit]
    step = _SLOW_STEP if kind.name.startswith(SLOW) else 1
    return (_squared_error(kind, heavy, 1) + _squared_error(kind, light, step)) / total


def _squared_error(kind: Type, runs: Sequence[Run], step: int) -> float:
    """Of all runs, from every `step`th: what is off is scaled by the squares."""
    codec = FORMATS[kind.name]
    off = tried = 0.0
    for run in runs[::step]:
        rounded = codec.dequantize(codec.quantize(run.rows, run.importance))
        off += weighted_square(rounded - run.rows, run.importance)
        tried += run.square
    return off * sum(run.square for run in runs) / tried if tried else 0.0


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
