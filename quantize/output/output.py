"""A GGUF to be written: its types, headers and offsets, all planned before writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType

from franken_gguf.quantize.blocks.code_refinement import REFINABLE
from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.shards import shard_counts, shard_metadata, shard_path
from franken_gguf.quantize.gguf_file.values import Metadata, u32
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.second_moments import SecondMoments, WeightMoments
from franken_gguf.quantize.tensor_types.type_choice import (
    Choice,
    Overrides,
    Tensor,
    choose_types,
    needing_importance,
)
from franken_gguf.quantize.tensor_types.type_presets import Preset

from .type_checks import check_fits, check_importances, check_supported

_PRECISION_PRESETS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor's type in one output, and its place in the files."""

    source: SourceTensor
    choice: Choice
    shard: int
    """The index of its file in Output.shards."""
    offset: int
    """In bytes from the start of that file."""
    row_bytes: int
    importance: F32 | None
    """float32 [matrices, cols], one row for each expert; None without an imatrix."""
    moments: WeightMoments | None = None
    """Those its codes are chosen under; None if they are ggml's."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor, without padding."""
        return self.source.rows * self.row_bytes


@dataclass(frozen=True)
class Shard:
    """One file of an output."""

    path: Path
    header: bytes
    nbytes: int
    """The exact size of the finished file."""


@dataclass(frozen=True)
class Output:
    """A model to be written: one file, or several shards."""

    path: Path
    """The file; for a split model, the name from which the shards' names are made."""
    preset: Preset
    shards: tuple[Shard, ...]
    tensors: tuple[PlannedTensor, ...]

    @property
    def nbytes(self) -> int:
        """The exact size of all files together."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def bits_per_weight(self) -> float:
        """Bits of all tensors divided by the number of weights, as in llama-quantize."""
        return 8 * sum(tensor.nbytes for tensor in self.tensors) / self._weights

    @property
    def wanted_bits_per_weight(self) -> float:
        """The same, if no tensor had fallen back to another type than the preset wants."""
        bits = 0.0
        for tensor in self.tensors:
            block_len, block_bytes = GGML_QUANT_SIZES[tensor.choice.wanted]
            bits += prod(tensor.source.shape) * 8 * block_bytes / block_len
        return bits / self._weights

    @property
    def without_importance(self) -> list[str]:
        """Names of quantized tensors that the imatrix has no values for."""
        return [
            tensor.source.name
            for tensor in self.tensors
            if tensor.importance is None and GGML_QUANT_SIZES[tensor.choice.type][0] > 1
        ]

    @property
    def refined_share(self) -> float:
        """The share of the quantized weights whose codes are chosen under second moments."""
        quantized = [t for t in self.tensors if GGML_QUANT_SIZES[t.choice.type][0] > 1]
        weights = sum(prod(t.source.shape) for t in quantized)
        chosen = sum(prod(t.source.shape) for t in quantized if t.moments)
        return chosen / weights if weights else 0.0

    @property
    def _weights(self) -> int:
        return sum(prod(tensor.source.shape) for tensor in self.tensors)


def type_counts(output: Output) -> dict[str, int]:
    """Number of tensors by type name, the most frequent first."""
    return dict(Counter(t.choice.type.name for t in output.tensors).most_common())


def refines(output: Output) -> bool:
    """Whether any codes are chosen under second moments."""
    return any(tensor.moments for tensor in output.tensors)


def plan_output(
    source: Source,
    path: Path,
    preset: Preset,
    overrides: Overrides | None = None,
    imatrix: Imatrix | None = None,
    *,
    allow_requantize: bool = False,
    strict_types: bool = False,
    split_max_size: int | None = None,
    second_moments: SecondMoments | None = None,
) -> Output:
    """Decide every type, offset and key of the file `path`. Reads no weights.

    With `second_moments` codes are chosen under them, where the type allows it; the file's keys
    record that.
    With `split_max_size`, in bytes, the model is split into shards with at most that much of
    tensors. Raises RecipeError for an unsupported type, with `strict_types` for a type that does
    not fit and would fall back to another, without `allow_requantize` for a source that is
    quantized already; ImatrixError for an imatrix of another model, or second moments of one.
    """
    candidates = [Tensor(tensor.name, tensor.shape, tensor.kept) for tensor in source.tensors]
    choices = choose_types(
        candidates, source.model, preset, overrides, has_imatrix=imatrix is not None
    )
    check_supported(source.tensors, choices, allow_requantize=allow_requantize)
    if strict_types:
        check_fits(source.tensors, choices, preset)
    matrices = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    importances = imatrix.for_tensors(matrices) if imatrix else {}
    moments = _moments(source.tensors, choices, second_moments, matrices)
    metadata = _metadata(source, preset)
    if imatrix:
        needing = needing_importance(candidates, choices, preset)
        check_importances(needing, importances, imatrix.path)
        metadata |= imatrix.metadata()
    if second_moments and moments:
        metadata |= second_moments.metadata()
    pairs = list(zip(source.tensors, choices, strict=True))
    shards, places = _shards(
        path,
        metadata,
        [(tensor.name, _shape(tensor, source, preset), choice.type) for tensor, choice in pairs],
        [tensor.rows * _row_bytes(tensor, choice) for tensor, choice in pairs],
        split_max_size,
    )
    tensors = (
        PlannedTensor(
            tensor,
            choice,
            *place,
            _row_bytes(tensor, choice),
            importances.get(tensor.name),
            moments.get(tensor.name),
        )
        for (tensor, choice), place in zip(pairs, places, strict=True)
    )
    return Output(path, preset, tuple(shards), tuple(tensors))


def _shards(
    path: Path,
    metadata: Metadata,
    entries: Sequence[tuple[str, tuple[int, ...], GGMLQuantizationType]],
    sizes: Sequence[int],
    limit: int | None,
) -> tuple[list[Shard], list[tuple[int, int]]]:
    """The files, and for each tensor the index of its file and its offset there.

    `entries` are the tensors' names, shapes and types, `sizes` their bytes.
    """
    counts = shard_counts([name for name, _, _ in entries], sizes, limit)
    shards: list[Shard] = []
    places: list[tuple[int, int]] = []
    for number, count in enumerate(counts):
        indices = range(len(places), len(places) + count)
        *offsets, nbytes = accumulate((padded(sizes[i]) for i in indices), initial=0)
        header = encode_header(
            shard_metadata(metadata, number, len(counts), len(sizes)),
            [(*entries[i], offset) for i, offset in zip(indices, offsets, strict=True)],
        )
        shards.append(Shard(shard_path(path, number, len(counts)), header, len(header) + nbytes))
        places += [(number, len(header) + offset) for offset in offsets]
    return shards, places


def _moments(
    tensors: Sequence[SourceTensor],
    choices: Sequence[Choice],
    second_moments: SecondMoments | None,
    matrices: Mapping[str, tuple[int, ...]],
) -> dict[str, WeightMoments]:
    """By name, those of the tensors that are quantized to a type whose codes can be chosen."""
    if second_moments is None:
        return {}
    known = second_moments.for_tensors(matrices)
    return {
        tensor.name: known[tensor.name]
        for tensor, choice in zip(tensors, choices, strict=True)
        if tensor.name in known
        and choice.type is not tensor.stored
        and choice.type.name in REFINABLE
    }


def _row_bytes(tensor: SourceTensor, choice: Choice) -> int:
    block_len, block_bytes = GGML_QUANT_SIZES[choice.type]
    return tensor.cols // block_len * block_bytes


def _is_the_converters(source: Source, preset: Preset) -> bool:
    """Whether llama.cpp's converter would write the file, not llama-quantize."""
    return preset.name in _PRECISION_PRESETS and not source.is_gguf


def _shape(tensor: SourceTensor, source: Source, preset: Preset) -> tuple[int, ...]:
    """The shape in the file: llama-quantize, as ggml, does not count a first dimension of 1."""
    shape = tensor.shape
    while len(shape) > 1 and shape[0] == 1 and not _is_the_converters(source, preset):
        shape = shape[1:]
    return shape


def _metadata(source: Source, preset: Preset) -> Metadata:
    """The source's keys with this file's type, in the order in which llama.cpp writes them.

    llama.cpp's converter keeps the file type's position. llama-quantize sets two keys again, which
    moves them to the end, and drops the keys of a split file.
    """
    metadata = {k: v for k, v in source.metadata.items() if not k.startswith("split.")}
    file_type = u32(preset.file_type)
    if _is_the_converters(source, preset):
        return metadata | {"general.file_type": file_type}
    for key in ("general.quantization_version", "general.file_type"):
        metadata.pop(key, None)
    return metadata | {
        "general.quantization_version": u32(GGML_QUANT_VERSION),
        "general.file_type": file_type,
    }
