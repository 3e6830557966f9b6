"""The two layouts of a mixture's checkpoint: a tensor for each expert, or all in one. Pure.

Mixtral's; the other families have `mlp` and other names for the matrices (checkpoint/families/).

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

from franken_gguf.quantize.checkpoint.families.family import Experts
from franken_gguf.quantize.checkpoint.name_mapping import Piece

PER_EXPERT, FUSED = LAYOUTS = ("per-expert", "fused")

_LAYER = re.compile(r"model\.layers\.(\d+)\.")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the checkpoint to be written, made of rows of per-expert tensors."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


def arrange_tensors(
    shapes: Mapping[str, tuple[int, ...]], names: Experts, layout: str, experts: int
) -> list[StoredTensor]:
    """Every tensor in `layout`, in model order; `shapes` has those of the per-expert layout."""
    stored: list[StoredTensor] = []
    routed: set[str] = set()
    if layout == FUSED:
        layers = sum(names.router(layer) in shapes for layer in range(len(shapes)))
        for layer in range(layers):
            stored += _fused(layer, names, experts, shapes)
        routed = {piece.source for tensor in stored for piece in tensor.pieces}
    stored += [_whole(name, name, shape) for name, shape in shapes.items() if name not in routed]
    return sorted(stored, key=lambda tensor: _position(tensor.name))


def _fused(
    layer: int, names: Experts, experts: int, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[StoredTensor]:
    block = f"model.layers.{layer}.mlp"
    router = names.router(layer)
    yield _whole(f"{block}.gate.weight", router, shapes[router])
    for name, matrices in (("gate_up_proj", (names.gate, names.up)), ("down_proj", (names.down,))):
        pieces = []
        for expert in range(experts):
            for matrix in matrices:
                source = names.matrix(layer, expert, matrix)
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
