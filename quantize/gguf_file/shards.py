"""Split a model into several files, with the names and keys of llama.cpp's gguf-split. Pure.

Source: tools/gguf-split/gguf-split.cpp and llama_split_path in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gguf import GGUFValueType

from franken_gguf.quantize.common.errors import RecipeError

from .encode import padded
from .values import Metadata, Value

_MAX_SHARDS = 65535  # split.count has 16 bits


def shard_counts(names: Sequence[str], sizes: Sequence[int], limit: int | None) -> list[int]:
    """The number of tensors in each shard, in file order, so that no shard exceeds `limit` bytes.

    `sizes` are the tensors' bytes; padding counts, a shard's header does not. Without a limit there
    is one shard. Raises RecipeError if one tensor alone exceeds the limit (gguf-split then writes a
    larger shard).
    """
    if limit is None:
        return [len(sizes)]
    counts, used = [0], 0
    for name, nbytes in zip(names, map(padded, sizes), strict=True):
        if nbytes > limit:
            raise RecipeError(
                f"tensor {name!r} is {nbytes:,} bytes, more than --split-max-size {limit:,}; "
                f"give at least {nbytes:,}"
            )
        if used + nbytes > limit:
            counts.append(0)
            used = 0
        counts[-1] += 1
        used += nbytes
    if len(counts) > _MAX_SHARDS:
        raise RecipeError(
            f"--split-max-size {limit:,} makes {len(counts):,} shards, more than "
            f"{_MAX_SHARDS:,}; give a larger size"
        )
    return counts


def shard_path(path: Path, number: int, count: int) -> Path:
    """`path` itself if `count` is 1, else <stem>-00001-of-00003.gguf; `number` counts from 0."""
    if count == 1:
        return path
    stem = path.stem if path.suffix == ".gguf" else path.name
    return path.with_name(f"{stem}-{number + 1:05}-of-{count:05}.gguf")


def shard_metadata(metadata: Metadata, number: int, count: int, tensors: int) -> Metadata:
    """The keys of shard `number`: `split.*` in every shard, all others in the first only."""
    if count == 1:
        return metadata
    return (metadata if number == 0 else {}) | {
        "split.no": Value(GGUFValueType.UINT16, number),
        "split.tensors.count": Value(GGUFValueType.INT32, tensors),
        "split.count": Value(GGUFValueType.UINT16, count),
    }
