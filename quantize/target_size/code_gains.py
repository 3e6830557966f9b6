"""What is left of each type's error once codes are chosen under second moments, from samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from franken_gguf.quantize.blocks.code_refinement import REFINABLE, refined
from franken_gguf.quantize.blocks.formats import F32, FORMATS
from franken_gguf.quantize.blocks.moments import output_error
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.blas import one_blas_thread
from franken_gguf.quantize.output.jobs import smallest_job
from franken_gguf.quantize.tensor_types.second_moments import WeightMoments
from franken_gguf.quantize.tensor_types.type_presets import Type

_ROWS = 64
_MATRICES = _GROUPS = 2
"""Experts of a tensor, and groups of columns, that are tried: the first and the last."""


@dataclass(frozen=True)
class CodeGains:
    """A worker for tensors by their index: `types[index]` are tried on each.

    `importances` are those of the imatrix, float32 [matrices, cols], and `moments` the second
    moments, both by name.
    """

    source: Source
    importances: Mapping[str, F32]
    moments: Mapping[str, WeightMoments]
    types: Sequence[tuple[Type, ...]]

    def __call__(self, index: int) -> dict[Type, float]:
        """By type, the mean square of what outputs are off by, relative to that of ggml's codes."""
        tensor = self.source.tensors[index]
        weight = self.moments[tensor.name]
        importance = self.importances.get(tensor.name)
        off = {kind: np.zeros(2) for kind in self.types[index]}
        with one_blas_thread():
            for matrix in _spread(len(tensor.pieces), _MATRICES):
                rows = _rows(self.source, tensor, matrix)
                moments = weight.prepared(matrix, _spread(weight.groups, _GROUPS))
                for kind, sums in off.items():
                    codec = FORMATS[kind.name]
                    blocks = codec.quantize(
                        rows, None if importance is None else importance[matrix]
                    )
                    better = refined(kind.name, rows, blocks, moments)
                    sums += [
                        output_error(codec.dequantize(b) - rows, moments) for b in (blocks, better)
                    ]
        return {
            kind: float(after / before) if before else 1.0 for kind, (before, after) in off.items()
        }


def gaining_types(types: Sequence[Type]) -> tuple[Type, ...]:
    """Those whose codes can be chosen."""
    return tuple(kind for kind in types if kind.name in REFINABLE)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, most).astype(int).tolist()))


def _rows(source: Source, tensor: SourceTensor, matrix: int) -> F32:
    """Rows from the middle of a matrix, whole heads if heads are rotated: float32 [rows, cols]."""
    piece, unit = tensor.pieces[matrix], smallest_job(tensor) // tensor.cols
    start = piece.start + (piece.stop - piece.start) // 2 // unit * unit
    stored = source.read(tensor, piece, start, min(start + max(unit, _ROWS), piece.stop))
    return FORMATS[tensor.stored.name].dequantize(np.ascontiguousarray(stored[:_ROWS]))
