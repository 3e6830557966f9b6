"""A model in several files, cut, named and marked as llama.cpp's gguf-split does. Pure.

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
    """How many tensors each shard takes, in their order, so that none exceeds `limit` bytes.

    `sizes` are the tensors' bytes; padding counts, a shard's header does not. Without a limit one
    shard takes all. Raises RecipeError for a tensor that is larger by itself (gguf-split writes a
    shard beyond the limit then).
    """
    if limit is None:
        return [len(sizes)]
    counts, used = [0], 0
    for name, nbytes in zip(names, map(padded, sizes), strict=True):
        if nbytes > limit:
            raise RecipeError(
                f"tensor {name!r} is {nbytes:,} bytes, more than --split-max-size {limit:,}; "
                "give at least that"
            )
        if used + nbytes > limit:
            counts.append(0)
            used = 0
        counts[-1] += 1
        used += nbytes
    if len(counts) > _MAX_SHARDS:
        raise RecipeError(f"--split-max-size {limit:,} makes {len(counts):,} shards; give more")
    return counts


def shard_path(path: Path, number: int, count: int) -> Path:
    """`path` itself where it is the only one, else <stem>-00001-of-00003.gguf."""
    if count == 1:
        return path
    stem = path.stem if path.suffix == ".gguf" else path.name
    return path.with_name(f"{stem}-{number + 1:05}-of-{count:05}.gguf")


def shard_metadata(metadata: Metadata, number: int, count: int, tensors: int) -> Metadata:
    """The keys of shard `number`: all of them in the first, and what makes it a shard in each."""
    if count == 1:
        return metadata
    return (metadata if number == 0 else {}) | {
        "split.no": Value(GGUFValueType.UINT16, number),
        "split.tensors.count": Value(GGUFValueType.INT32, tensors),
        "split.count": Value(GGUFValueType.UINT16, count),
    }
