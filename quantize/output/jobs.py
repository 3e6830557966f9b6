"""Divides a conversion into jobs: consecutive rows, in the order of the output files. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from franken_gguf.quantize.checkpoint.name_mapping import MappedTensor, Piece

Position = tuple[int, int]
"""(tensor, row): a point in the order of all rows; progress is every row before it."""

START: Position = (0, 0)


@dataclass(frozen=True)
class Job:
    """Rows of one piece of one tensor, and their place in the tensor."""

    index: int
    """Of the tensor, in the source and in every output."""
    matrix: int
    """Of the piece within the tensor: the number of the expert, or 0."""
    piece: Piece
    start: int
    """Rows `start` to `stop` of the piece."""
    stop: int
    row: int
    """The tensor's row that `start` becomes."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.stop - self.start

    @property
    def end(self) -> Position:
        """The position after the last row."""
        return self.index, self.row + self.rows


def jobs(tensors: Sequence[MappedTensor], weights: int, since: Position = START) -> Iterator[Job]:
    """Divide the tensors into jobs of about `weights` weights; skip those before `since`.

    A job stays within one matrix. In tensors whose heads are rotated (RoPE) it has whole heads.
    """
    for index, tensor in enumerate(tensors):
        row = 0
        for matrix, piece in enumerate(tensor.pieces):
            step = max(weights // smallest_job(tensor), 1) * _unit(tensor)
            for start in range(piece.start, piece.stop, step):
                job = Job(index, matrix, piece, start, min(start + step, piece.stop), row)
                row += job.rows
                if job.end > since:
                    yield job


def smallest_job(tensor: MappedTensor) -> int:
    """Weights in the smallest possible job: one row, or one head if heads are rotated."""
    return _unit(tensor) * tensor.cols


def _unit(tensor: MappedTensor) -> int:
    """Rows that must stay together."""
    return max(tensor.rows // tensor.rotary_heads, 1) if tensor.rotary_heads else 1


def end(tensors: Sequence[MappedTensor]) -> Position:
    """The position after the last row of the last tensor."""
    return len(tensors), 0


def weights_before(tensors: Sequence[MappedTensor], position: Position) -> int:
    """The number of weights before `position`."""
    index, row = position
    whole = sum(prod(tensor.shape) for tensor in tensors[:index])
    return whole + (row * tensors[index].cols if row else 0)
