"""How a Mixtral's tensors stand in a checkpoint: one for each expert, or all experts in one. Pure.

    per-expert   model.layers.N.block_sparse_moe.gate.weight             [E, hidden]
                 model.layers.N.block_sparse_moe.experts.E.w1.weight     [ff, hidden]   gate
                 model.layers.N.block_sparse_moe.experts.E.w3.weight     [ff, hidden]   up
                 model.layers.N.block_sparse_moe.experts.E.w2.weight     [hidden, ff]   down

    fused        model.layers.N.mlp.gate.weight                          [E, hidden]
                 model.layers.N.mlp.experts.gate_up_proj   [E, 2*ff, hidden]   w1's rows, then w3's
                 model.layers.N.mlp.experts.down_proj      [E, hidden, ff]

The first is mergekit's and the hub's, the second that of mergekit 0.1.5 with transformers 5.
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
_OF_THE_MIXTURE = ".block_sparse_moe."


@dataclass(frozen=True)
class Stored:
    """A tensor of the checkpoint to be, made of rows of tensors in the per-expert layout."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


def laid_out(shapes: Mapping[str, tuple[int, ...]], layout: str, experts: int) -> list[Stored]:
    """Every tensor in `layout`, in the order of the model; `shapes` are the per-expert layout's."""
    if layout == PER_EXPERT:
        stored = [_whole(name, name, shape) for name, shape in shapes.items()]
    else:
        dense = (name for name in shapes if _OF_THE_MIXTURE not in name)
        stored = [_whole(name, name, shapes[name]) for name in dense]
        layers = sum(name.endswith(_OF_THE_MIXTURE + "gate.weight") for name in shapes)
        for layer in range(layers):
            stored += _fused(layer, experts, shapes)
    return sorted(stored, key=lambda tensor: _place(tensor.name))


def _fused(layer: int, experts: int, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Stored]:
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
        yield Stored(f"{block}.experts.{name}", shape, tuple(pieces))


def _whole(name: str, source: str, shape: tuple[int, ...]) -> Stored:
    return Stored(name, shape, (Piece(source, 0, prod(shape[:-1])),))


def _place(name: str) -> tuple[int, int]:
    """Embeddings, then the layers, then what follows them; names keep their order within."""
    if found := _LAYER.match(name):
        return 1, int(found[1])
    return (0 if "embed_tokens" in name else 2), 0
