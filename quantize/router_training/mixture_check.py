"""Checks that a GGUF file is a mixture whose routers can be trained, and that its tensors fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.common.errors import CheckpointError, GGUFError
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo

ROUTER = "ffn_gate_inp.weight"


@dataclass(frozen=True)
class Kind:
    """What an architecture does that its metadata do not say."""

    halves: bool
    """See layers.Rope."""
    normalized: bool
    """Whether the weights of a token's experts add up to 1."""


KINDS: Mapping[str, Kind] = {
    "llama": Kind(halves=False, normalized=True),
    "qwen2moe": Kind(halves=True, normalized=False),
    "qwen3moe": Kind(halves=True, normalized=True),
}
_OF_MODEL = ("token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight")


@dataclass(frozen=True)
class Sizes:
    """The sizes that the metadata give."""

    layers: int
    hidden: int
    experts: int
    used: int
    heads: int
    kv_heads: int
    head: int
    pairs: int
    """Pairs of a head's numbers that rotary positions turn."""


def check_kind(header: Header, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError for a model whose routers cannot be trained."""
    path, architecture = header.path, header.text("general.architecture")
    routers = [name for name in tensors if name.endswith(f".{ROUTER}")]
    if not routers:
        raise CheckpointError(
            f"{path}: has no router (blk.N.{ROUTER}), so it is not a mixture of experts; name one"
        )
    if architecture not in KINDS:
        raise CheckpointError(
            f"{path}: routers of architecture {architecture!r} cannot be trained, only those of "
            f"{', '.join(KINDS)}"
        )
    scaling = header.text(f"{architecture}.rope.scaling.type", "linear")
    if scaling not in ("none", "linear"):
        raise CheckpointError(
            f"{path}: routers of a model with rope scaling {scaling!r} cannot be trained"
        )
    if len(routers) != header.integer(f"{architecture}.block_count"):
        raise CheckpointError(
            f"{path}: only some layers have a router; such a model cannot be trained"
        )
    for name, tensor in tensors.items():
        if name.endswith(f".{ROUTER}") and tensor.type.name != "F32":
            raise CheckpointError(
                f"{path}: router {name!r} is {tensor.type.name}, not F32; convert the model "
                "again from its safetensors, which makes routers F32"
            )
        if tensor.type.name not in FORMATS:
            raise CheckpointError(
                f"{path}: tensor {name!r} is {tensor.type.name}, which cannot be read; give "
                "another quant of the model"
            )


def check_shapes(path: Path, tensors: Mapping[str, TensorInfo], sizes: Sizes) -> None:
    """Raise GGUFError unless all tensors are there and fit; CheckpointError for unknown ones."""
    if (
        min(sizes.hidden, sizes.heads, sizes.kv_heads, sizes.pairs) < 1
        or not 0 < sizes.used <= sizes.experts
        or sizes.heads % sizes.kv_heads
        or 2 * sizes.pairs > sizes.head
    ):
        raise GGUFError(f"{path}: its metadata are inconsistent; download it again")
    for name in sorted(_needed(tensors, sizes.layers) - tensors.keys()):
        raise GGUFError(f"{path}: tensor {name!r} is missing; download it again")
    for name, tensor in tensors.items():
        layer = re.fullmatch(r"blk\.(\d{1,4})\.(.+)", name)
        wanted: _Shape | None = None
        if name in _OF_MODEL:
            wanted = _of_model(tensors, sizes)[name]
        elif layer and int(layer[1]) < sizes.layers:
            wanted = _of_layer(tensors, sizes, f"blk.{layer[1]}.").get(layer[2])
        if wanted is None:
            raise CheckpointError(f"{path}: tensor {name!r} is not supported by router training")
        if tensor.shape not in (wanted, (1, *wanted)):
            raise GGUFError(
                f"{path}: tensor {name!r} is {tensor.shape}, not {wanted}; the file is damaged"
            )


_Shape = tuple[int, ...]
_NEEDED = (
    *(ROUTER, "attn_norm.weight", "attn_output.weight"),
    *(f"attn_{name}.weight" for name in "qkv"),
    *(f"ffn_{name}_exps.weight" for name in ("gate", "up", "down")),
)
_SHARED = (
    *(f"ffn_{name}_shexp.weight" for name in ("gate", "up", "down")),
    "ffn_gate_inp_shexp.weight",
)


def _needed(tensors: Mapping[str, TensorInfo], layers: int) -> set[str]:
    """The names of the tensors without which such a model cannot be computed."""
    needed = {"token_embd.weight", "output_norm.weight"}
    for layer in (f"blk.{number}." for number in range(layers)):
        needed |= {layer + name for name in _NEEDED}
        if any(f"{layer}{name}" in tensors for name in _SHARED):
            needed |= {layer + name for name in _SHARED}
        if f"{layer}post_attention_norm.weight" not in tensors:
            needed.add(f"{layer}ffn_norm.weight")
    return needed


def _of_model(tensors: Mapping[str, TensorInfo], sizes: Sizes) -> dict[str, _Shape]:
    vocabulary = tensors["token_embd.weight"].shape[0]
    return {
        "token_embd.weight": (vocabulary, sizes.hidden),
        "output_norm.weight": (sizes.hidden,),
        "output.weight": (vocabulary, sizes.hidden),
        "rope_freqs.weight": (sizes.pairs,),
    }


def _of_layer(tensors: Mapping[str, TensorInfo], sizes: Sizes, layer: str) -> dict[str, _Shape]:
    """The shapes of a layer's tensors, by their names without `layer`."""
    hidden, q, kv = sizes.hidden, sizes.heads * sizes.head, sizes.kv_heads * sizes.head
    ff = _rows(tensors, f"{layer}ffn_gate_exps.weight")
    shared = _rows(tensors, f"{layer}ffn_gate_shexp.weight")
    return {
        ROUTER: (sizes.experts, hidden),
        "attn_norm.weight": (hidden,),
        "ffn_norm.weight": (hidden,),
        "post_attention_norm.weight": (hidden,),
        "attn_q.weight": (q, hidden),
        "attn_k.weight": (kv, hidden),
        "attn_v.weight": (kv, hidden),
        "attn_q.bias": (q,),
        "attn_k.bias": (kv,),
        "attn_v.bias": (kv,),
        "attn_q_norm.weight": (sizes.head,),
        "attn_k_norm.weight": (sizes.head,),
        "attn_output.weight": (hidden, q),
        "ffn_gate_exps.weight": (sizes.experts, ff, hidden),
        "ffn_up_exps.weight": (sizes.experts, ff, hidden),
        "ffn_down_exps.weight": (sizes.experts, hidden, ff),
        "ffn_gate_shexp.weight": (shared, hidden),
        "ffn_up_shexp.weight": (shared, hidden),
        "ffn_down_shexp.weight": (hidden, shared),
        "ffn_gate_inp_shexp.weight": (hidden,),
    }


def _rows(tensors: Mapping[str, TensorInfo], name: str) -> int:
    """The rows of a matrix, or of each in a stack; 0 if the model has none."""
    return tensors[name].shape[-2] if name in tensors and len(tensors[name].shape) > 1 else 0
