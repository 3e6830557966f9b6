"""The two layouts of a Mixtral checkpoint: a tensor for each expert, or all experts in one. Pure.

    per-expert   model.layers.N.block_sparse_moe.gate.weight             [E, hidden]
                 model.layers.N.block_sparse_moe.experts.E.w1.weight     [ff, hidden]   gate
                 model.layers.N.block_sparse_moe.experts.E.w3.weight     [ff, hidden]   up
                 model.layers.N.block_sparse_moe.experts.E.w2.weight     [hidden, ff]   down

    fused        model.layers.N.mlp.gate.weight                          [E, hidden]
                 model.layers.N.mlp.experts.gate_up_proj   [E, 2*ff, hidden]   w1's rows, then w3's
                 model.layers.N.mlp.experts.down_proj      [E, hidden, ff]

mergekit and the models on the Hugging Face hub use the first; mergekit 0.1.5 with transformers 5
writes the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from franken_gguf.quantize.checkpoint.name_mapping import Piece

from .mixture_tensors import expert_matrix, router

PER_EXPERT, FUSED = LAYOUTS = ("per-expert", "fused")

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_MOE_BLOCK = ".block_sparse_moe."


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the checkpoint to be written, made of rows of per-expert tensors."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


def arrange_tensors(
    shapes: Mapping[str, tuple[int, ...]], layout: str, experts: int
) -> list[StoredTensor]:
    """Every tensor in `layout`, in model order; `shapes` has those of the per-expert layout."""
    if layout == PER_EXPERT:
        stored = [_whole(name, name, shape) for name, shape in shapes.items()]
    else:
        dense = (name for name in shapes if _MOE_BLOCK not in name)
        stored = [_whole(name, name, shapes[name]) for name in dense]
        layers = sum(name.endswith(_MOE_BLOCK + "gate.weight") for name in shapes)
        for layer in range(layers):
            stored += _fused(layer, experts, shapes)
    return sorted(stored, key=lambda tensor: _position(tensor.name))


def _fused(
    layer: int, experts: int, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[StoredTensor]:
    block = f"model.layers.{layer}.mlp"
    yield _whole(f"{block}.gate.weight", router(layer), shapes[router(layer)])
    for name, matrices in (("gate_up_proj", ("w1", "w3")), ("down_proj", ("w2",))):
        pieces = []
        for expert in range(experts):
            for matrix in matrices:
                source = expert_matrix(layer, expert, matrix)
                rows, cols = shapes[source]
                pieces.append(Piece(source, 0, rows))
        shape = (experts, rows * len(matrices), cols)
        yield StoredTensor(f"{block}.experts.{name}", shape, tuple(pieces))


def _whole(name: str, source: str, shape: tuple[int, ...]) -> StoredTensor:
    return StoredTensor(name, shape, (Piece(source, 0, prod(shape[:-1])),))


def _position(name: str) -> tuple[int, int]:
    """A sort key: embeddings, then the layers, then the rest."""
    if found := _LAYER.match(name):
        return 1, int(found[1])
    return (0 if "embed_tokens" in name else 2), 0
