"""The work of a conversion cut into jobs: runs of rows, in the order of the files. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from franken_gguf.quantize.checkpoint.name_mapping import MappedTensor, Piece

Position = tuple[int, int]
"""(tensor, row): all rows before it, in the order of the tensors, are meant."""

START: Position = (0, 0)


@dataclass(frozen=True)
class Job:
    """Rows of one piece of one tensor, and where they stand in the tensor."""

    index: int
    """Of the tensor, in the source and in every output."""
    matrix: int
    """Of the piece within the tensor: the number of the expert, or 0."""
    piece: Piece
    start: int
    stop: int
    row: int

    @property
    def rows(self) -> int:
        """How many rows the job carries."""
        return self.stop - self.start

    @property
    def end(self) -> Position:
        """The position after its last row."""
        return self.index, self.row + self.rows


def jobs(tensors: Sequence[MappedTensor], weights: int, since: Position = START) -> Iterator[Job]:
    """Cut the tensors into runs of rows of about `weights` weights, those that end after `since`.

    A run stays within a matrix, and holds whole heads where they rotate.
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
    """Weights in the shortest run of rows that can be converted by itself: a row, or a head."""
    return _unit(tensor) * tensor.cols


def _unit(tensor: MappedTensor) -> int:
    return max(tensor.rows // tensor.rotary_heads, 1) if tensor.rotary_heads else 1


def end(tensors: Sequence[MappedTensor]) -> Position:
    """The position after the last row of all."""
    return len(tensors), 0


def weights_before(tensors: Sequence[MappedTensor], position: Position) -> int:
    """Weights that stand before `position`."""
    index, row = position
    whole = sum(prod(tensor.shape) for tensor in tensors[:index])
    return whole + (row * tensors[index].cols if row else 0)
