"""The mixture of a recipe written as a Hugging Face folder, for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.checkpoint.named_tensors import Weights
from franken_gguf.quantize.common.errors import CheckpointError, MergeError, OutputError
from franken_gguf.quantize.common.files import changed_file

from .config_files import write_config_files
from .expert_layout import FUSED, PER_EXPERT, StoredTensor, arrange_tensors
from .merged_source import MergedSource

DEFAULT_SHARD_BYTES = 5 * 1000**3
"""The default of Hugging Face and of mergekit."""

_INDEX = "model.safetensors.index.json"
_STEP = 1 << 20  # weights in memory at once


@dataclass(frozen=True)
class CheckpointPlan:
    """What will be written into the folder."""

    name: str
    """Of the model."""
    source: MergedSource
    shards: tuple[tuple[StoredTensor, ...], ...]
    nbytes: int
    """Of all weights."""


def plan_checkpoint(
    source: MergedSource, name: str, layout: str, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> CheckpointPlan:
    """Plan the files of a model called `name`, without reading weights.

    `layout` is one of expert_layout.LAYOUTS. No file holds more than `shard_bytes` of weights,
    except for a single tensor that is larger. Raises MergeError.
    """
    family = source.weights.family
    assert family.experts is not None
    if layout == FUSED and not family.experts.can_be_fused:
        raise MergeError(
            f"{source.recipe.path}: {family.class_name} has no {FUSED} layout; use {PER_EXPERT}"
        )
    count = len(source.recipe.experts)
    stored = arrange_tensors(source.weights.shapes, family.experts, layout, count)
    sizes = [_nbytes(tensor, source.weights) for tensor in stored]
    return CheckpointPlan(name, source, tuple(_shards(stored, sizes, shard_bytes)), sum(sizes))


def write_checkpoint(
    plan: CheckpointPlan, folder: Path, report: Callable[[int], None] = lambda _: None
) -> None:
    """Write all files, synced, into the existing `folder`. Call the source's `route` first.

    `report` gets the number of bytes of each write. Raises a FrankenError.
    """
    try:
        _write_files(plan, folder, report)
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder}: {error.strerror}; nothing was left behind; fix it "
            "and run the same command again"
        ) from None
    if (changed := changed_file(plan.source.stamps)) is not None:
        raise CheckpointError(f"{changed}: changed while it was read; run the same command again")


def _write_files(plan: CheckpointPlan, folder: Path, report: Callable[[int], None]) -> None:
    source, weights = plan.source, plan.source.weights
    write_config_files(folder, source.recipe, source.base_folder, source.weights, plan.name)
    count = len(plan.shards)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(plan.shards, 1):
        name = f"model-{number:05}-of-{count:05}.safetensors" if count > 1 else "model.safetensors"
        with (folder / name).open("wb") as file:
            _write_shard(file, shard, weights, report)
            file.flush()
            os.fsync(file.fileno())
        weight_map |= dict.fromkeys((tensor.name for tensor in shard), name)
    if count > 1:
        index = {"metadata": {"total_size": plan.nbytes}, "weight_map": weight_map}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_shard(
    file: BinaryIO, shard: Sequence[StoredTensor], weights: Weights, report: Callable[[int], None]
) -> None:
    file.write(_header(shard, weights))
    for tensor in shard:
        step = max(_STEP // tensor.shape[-1], 1)
        for piece in tensor.pieces:
            for start in range(piece.start, piece.stop, step):
                rows = weights.read(piece.source, start, min(start + step, piece.stop))
                file.write(rows.data)
                report(rows.nbytes)


def _header(shard: Sequence[StoredTensor], weights: Weights) -> bytes:
    """The length of the JSON as a little-endian uint64, then the JSON, padded to eight bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in shard:
        start, end = end, end + _nbytes(tensor, weights)
        entries[tensor.name] = {
            "dtype": weights.dtype(tensor.pieces[0].source).name,
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _shards(
    stored: Sequence[StoredTensor], sizes: Sequence[int], limit: int
) -> Iterator[tuple[StoredTensor, ...]]:
    shard: list[StoredTensor] = []
    used = 0
    for tensor, nbytes in zip(stored, sizes, strict=True):
        if shard and used + nbytes > limit:
            yield tuple(shard)
            shard, used = [], 0
        shard.append(tensor)
        used += nbytes
    yield tuple(shard)


def _nbytes(tensor: StoredTensor, weights: Weights) -> int:
    return prod(tensor.shape) * GGML_QUANT_SIZES[weights.dtype(tensor.pieces[0].source)][1]
