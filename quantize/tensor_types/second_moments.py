"""Second moments of the inputs of weights, read from and written to a file.

A GGUF file, general.type "second-moments", with these tensors for each weight, one matrix for each
expert, and its columns in groups of equal size:

    NAME.root_mean_squares  F32 [matrices, cols]           r(i), of the inputs of each column
    NAME.correlations       F16 [matrices, groups, pairs]  mean(x(i) x(j)) / (r(i) r(j)) for columns
                                                           i < j of a group: (0, 1), (0, 2) ...
    second_moments.datasets, second_moments.chunk_count, second_moments.chunk_size
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.blocks.moments import Moments, prepared
from franken_gguf.quantize.blocks.point_choices import PointChoices
from franken_gguf.quantize.common.errors import ImatrixError, OutputError
from franken_gguf.quantize.common.files import (
    FileStamp,
    changed_file,
    file_stamp,
    read_at,
    replacing,
)
from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo, read_header
from franken_gguf.quantize.gguf_file.values import Metadata, array, string, u32

MOST_TOGETHER = 320
"""Columns in a group: the time to choose codes grows with them, what it gains hardly does."""
_SCALES, _CORRELATIONS = ".root_mean_squares", ".correlations"
_TYPE = "second-moments"
_MOST_CORRELATION = 1.001  # F16 rounds
_MOST_SCALE = 1e15  # its square is far from float32's limit


def group_count(cols: int) -> int:
    """The fewest groups of equal size with at most MOST_TOGETHER columns each.

    Of whole vectors of 8 columns, as grid points need, if the columns allow that.
    """
    vector = PointChoices.length if cols % PointChoices.length == 0 else 1
    fewest = -(-cols // MOST_TOGETHER)
    return next(count for count in range(fewest, cols + 1) if cols % (count * vector) == 0)


@dataclass(frozen=True)
class WeightMoments:
    """Where the second moments of one weight are. Can be pickled."""

    path: Path
    name: str
    matrices: int
    groups: int
    cols: int
    scales_offset: int
    """In bytes, in the file."""
    correlations_offset: int
    stamp: FileStamp
    """Of the file."""

    @property
    def size(self) -> int:
        """Columns in a group."""
        return self.cols // self.groups

    def prepared(self, matrix: int, groups: Collection[int] | None = None) -> Moments:
        """The moments of one matrix for code_refinement.refined, of all `groups` or some.

        Raises ImatrixError, also if the file was written again since it was opened, and ReadError.
        """
        if changed_file([self.stamp]):
            raise ImatrixError(
                f"{self.path}: has changed since this run began; rerun the command, which then "
                "starts from the beginning"
            )
        wanted = range(self.groups) if groups is None else groups
        some = (
            moments if group in wanted else None for group, moments in enumerate(self.read(matrix))
        )
        try:
            return prepared(some)
        except np.linalg.LinAlgError:
            raise self._damaged() from None

    def read(self, matrix: int) -> Iterator[F32]:
        """For each group float32 [size, size]: mean(x xT) of the inputs of one matrix.

        Raises ImatrixError for values that cannot be second moments, ReadError.
        """
        count = pairs(self.size)
        scales = self._array(self.scales_offset, matrix, self.cols, np.dtype("<f4"))
        correlations = self._array(
            self.correlations_offset, matrix, self.groups * count, np.dtype("<f2")
        )
        with np.errstate(invalid="ignore"):
            sound = (scales >= 0) & (scales <= _MOST_SCALE)
            if not (sound.all() and (np.abs(correlations) <= _MOST_CORRELATION).all()):
                raise self._damaged()
        upper = np.triu_indices(self.size, 1)
        for scale, group in zip(
            scales.reshape(self.groups, -1), correlations.reshape(self.groups, -1), strict=True
        ):
            moments = np.zeros((self.size, self.size), np.float32)
            moments[upper] = group
            moments += moments.T
            np.fill_diagonal(moments, 1)
            moments *= np.outer(scale, scale)
            yield moments

    def _array(self, offset: int, matrix: int, count: int, kind: np.dtype[np.floating]) -> F32:
        nbytes = count * kind.itemsize
        raw = read_at(self.path, offset + matrix * nbytes, nbytes, self.name)
        return raw.view(kind).astype(np.float32)

    def _damaged(self) -> ImatrixError:
        return ImatrixError(
            f"{self.path}: the second moments of {self.name!r} are damaged; make them again with "
            "'franken-gguf imatrix --second-moments'"
        )


@dataclass(frozen=True)
class SecondMoments:
    """The second moments of a model's weights."""

    path: Path
    weights: Mapping[str, WeightMoments]
    """By the weight's name."""
    chunks: int

    def metadata(self) -> Metadata:
        """The keys that say so in a file whose codes are chosen under them."""
        return {
            "quantize.second_moments.file": string(self.path.name),
            "quantize.second_moments.chunks_count": u32(self.chunks),
        }

    def for_tensors(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, WeightMoments]:
        """By tensor name, of the tensors that have them.

        `shapes` are the model's matrices in numpy order. Raises ImatrixError if no name matches, or
        if a weight has another shape.
        """
        found = {name: self.weights[name] for name in self.weights.keys() & shapes.keys()}
        if not found:
            raise ImatrixError(
                f"{self.path}: none of its {len(self.weights)} weights is in this model; use "
                "second moments made for this model"
            )
        for name, weight in found.items():
            *matrices, _, cols = shapes[name]
            if (weight.matrices, weight.cols) != (prod(matrices), cols):
                raise ImatrixError(
                    f"{self.path}: {name!r} is for {weight.matrices} x {weight.cols} columns, but "
                    f"the model has {prod(matrices)} x {cols}; use second moments made for it"
                )
        return found


def pairs(size: int) -> int:
    """The number of pairs of `size` columns."""
    return size * (size - 1) // 2


def read_second_moments(path: Path) -> SecondMoments:
    """Read what is in a file, without the values. Raises ImatrixError or GGUFError."""
    header = read_header(path)
    kind = header.metadata.get("general.type")
    if kind is None or kind.data != _TYPE:
        raise ImatrixError(
            f"{path}: does not hold second moments; make them with "
            "'franken-gguf imatrix --second-moments'"
        )
    tensors = {tensor.name: tensor for tensor in header.tensors}
    weights = {
        name.removesuffix(_SCALES): _weight(header, name.removesuffix(_SCALES), tensors)
        for name in tensors
        if name.endswith(_SCALES)
    }
    return SecondMoments(path, weights, header.integer("second_moments.chunk_count"))


def _weight(header: Header, name: str, tensors: Mapping[str, TensorInfo]) -> WeightMoments:
    scales, correlations = tensors[name + _SCALES], tensors.get(name + _CORRELATIONS)
    matrices, cols = _shape(scales, 2)
    groups = _shape(correlations, 3)[1] if correlations else 0
    size = cols // groups if groups and not cols % groups else 0
    if (
        correlations is None
        or not 0 < size <= MOST_TOGETHER
        or _shape(correlations, 3) != (matrices, groups, pairs(size))
        or scales.type is not GGMLQuantizationType.F32
        or correlations.type is not GGMLQuantizationType.F16
    ):
        raise ImatrixError(
            f"{header.path}: the second moments of {name!r} have the wrong shape; the file is "
            "damaged, make it again"
        )
    return WeightMoments(
        header.path,
        name,
        matrices,
        groups,
        cols,
        scales.offset,
        correlations.offset,
        file_stamp(header.path),
    )


def _shape(tensor: TensorInfo, dims: int) -> tuple[int, ...]:
    """The shape with `dims` dimensions; GGUF leaves out the first ones if they are 1."""
    return (1,) * (dims - len(tensor.shape)) + tuple(tensor.shape)


@dataclass(frozen=True, eq=False)
class MomentSums:
    """Sums of x xT over the inputs of one weight, float32 [matrices, groups, size, size]."""

    sums: F32
    counts: NDArray[np.int64]
    """Inputs that were added up, [matrices]."""

    @classmethod
    def zeros(cls, matrices: int, cols: int) -> MomentSums:
        """No inputs yet."""
        groups = group_count(cols)
        shape = (matrices, groups, cols // groups, cols // groups)
        return cls(np.zeros(shape, np.float32), np.zeros(matrices, np.int64))


def write_second_moments(
    path: Path,
    weights: Mapping[str, MomentSums],
    *,
    chunks: int,
    chunk_size: int,
    datasets: Sequence[str],
) -> None:
    """Write a file that replaces `path` once it is complete. Raises OutputError."""
    metadata: Metadata = {
        "general.type": string(_TYPE),
        "second_moments.datasets": array(GGUFValueType.STRING, list(datasets)),
        "second_moments.chunk_count": u32(chunks),
        "second_moments.chunk_size": u32(chunk_size),
    }
    names = sorted(weights)
    table, offset = [], 0
    for name in names:
        matrices, groups, size, _ = weights[name].sums.shape
        for suffix, shape, kind, width in (
            (_SCALES, (matrices, groups * size), GGMLQuantizationType.F32, 4),
            (_CORRELATIONS, (matrices, groups, pairs(size)), GGMLQuantizationType.F16, 2),
        ):
            table.append((name + suffix, shape, kind, offset))
            offset += padded(prod(shape) * width)
    try:
        with replacing(path, fsync=True) as part, part.open("wb") as file:
            file.write(encode_header(metadata, table))
            for name in names:
                for part_of_weight in _encoded(weights[name]):
                    file.write(part_of_weight.ljust(padded(len(part_of_weight)), b"\0"))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from None


def _encoded(weight: MomentSums) -> Iterator[bytes]:
    """The root mean squares, then the correlations."""
    matrices, groups, size, _ = weight.sums.shape
    squares = np.einsum("mgii->mgi", weight.sums)
    counts = np.maximum(weight.counts, 1)[:, None, None]
    yield np.sqrt(squares / counts).astype("<f4").tobytes()
    upper = np.triu_indices(size, 1)
    correlations = np.empty((matrices, groups, len(upper[0])), "<f2")
    for place in np.ndindex(matrices, groups):
        lengths = np.sqrt(squares[place])
        inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        correlations[place] = (weight.sums[place] * inverse * inverse[:, None])[upper].clip(-1, 1)
    yield correlations.tobytes()
