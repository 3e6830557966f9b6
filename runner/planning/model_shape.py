"""A model's widths and tensor sizes, from its header: all that decides its memory. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gguf import GGUFValueType

from franken_gguf.quantize.common.errors import GGUFError
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo
from franken_gguf.quantize.gguf_file.model_summary import tensor_group

MAX_LAYERS = 512  # llama.cpp's LLAMA_MAX_LAYERS
_LAYER = re.compile(r"^blk\.(\d+)\.")
_EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(?:ch|)exps")
_INPUT = re.compile(r"^(token_embd|token_types|position_embd|token_embd_norm)\.")


@dataclass(frozen=True)
class Weight:
    """A tensor as the planner sees it."""

    name: str
    nbytes: int
    group: str
    """As `franken-gguf inspect` calls it: attention, experts, router, ..."""
    layer: int
    """The layer whose device it follows; `n_layer` for the output, -1 for the input."""
    projection: str = ""
    """up, gate, down or gate_up of the experts; "" for all other tensors."""
    kind: str = ""
    """ggml's name of its type."""
    shape: tuple[int, ...] = ()
    """The row length is last."""
    is_tied: bool = False
    """The token embeddings used as the output too; on their own device this takes no memory."""


@dataclass(frozen=True)
class ModelShape:
    """Widths in numbers of floats, for one token."""

    name: str
    n_layer: int
    n_ctx_train: int
    rope_scaling: str
    """The file's own RoPE scaling: linear, yarn, longrope or none; "" if it has no such key."""
    has_learned_positions: bool
    """Whether each position has a row in a table, so that there are none beyond it."""
    n_vocab: int
    n_embd: int
    n_ff: int
    """Width of one expert, or of the dense feed-forward."""
    n_ff_dense: int
    """Width of a mixture's layers without experts; 0 if all have some."""
    n_ff_shared: int
    """Width of the expert that works on every token; 0 without one."""
    n_expert_used: int
    """Experts active for each token; 1 for a dense model."""
    n_expert: int
    n_q: int
    """Width of all query heads of a layer together."""
    n_head: int
    """Query heads; 0 if the header does not have the number."""
    head_size: int
    """Width of one key head; 0 if the header does not have the number."""
    kv: tuple[tuple[int, int], ...]
    """For each layer the widths of its keys and values in the KV cache."""
    parameters: int
    weights: tuple[Weight, ...]
    architecture: str = "llama"
    """llama.cpp's name of it."""


def model_shape(header: Header) -> ModelShape:
    """The shape of the model with this `header`; widths come from its tensors if possible.

    Raises GGUFError if a number is missing or impossible.
    """
    arch = header.text("general.architecture")
    n_layer = header.integer(f"{arch}.block_count")
    if not 0 < n_layer <= MAX_LAYERS:
        raise GGUFError(f"{header.path}: has {n_layer} layers; llama.cpp allows 1 to {MAX_LAYERS}")
    n_ctx_train = header.integer(f"{arch}.context_length")
    if n_ctx_train < 1:
        raise GGUFError(f"{header.path}: its context length is {n_ctx_train}; the file is damaged")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    embd = _rows(tensors, "token_embd.weight")
    if embd is None:
        raise GGUFError(f"{header.path}: has no tensor 'token_embd.weight'; give a language model")
    n_vocab, n_embd = embd
    n_expert = header.integer(f"{arch}.expert_count", 0)
    used = header.integer(f"{arch}.expert_used_count", 0) if n_expert else 1
    if n_expert and not 0 < used <= n_expert:
        raise GGUFError(f"{header.path}: uses {used} of {n_expert} experts; the file is damaged")
    n_q = max((_rows(tensors, f"blk.{n}.attn_q.weight") or (n_embd, 0))[0] for n in range(n_layer))
    return ModelShape(
        name=str(header.path),
        n_layer=n_layer,
        n_ctx_train=n_ctx_train,
        rope_scaling=header.text(f"{arch}.rope.scaling.type", ""),
        has_learned_positions="position_embd.weight" in tensors,
        n_vocab=n_vocab,
        n_embd=n_embd,
        n_ff=_width(tensors, "ffn_up_exps" if n_expert else "ffn_up")
        or header.integer(f"{arch}.feed_forward_length", 0),
        n_ff_dense=_width(tensors, "ffn_up") if n_expert else 0,
        n_ff_shared=_width(tensors, "ffn_up_shexp"),
        n_expert_used=used,
        n_expert=n_expert,
        n_q=n_q,
        n_head=max(0, _for_layer(header, f"{arch}.attention.head_count", 0, 0)),
        head_size=_head_size(header, arch, n_embd),
        kv=tuple(_kv_widths(header, arch, tensors, n, n_embd) for n in range(n_layer)),
        parameters=sum(_parameters(tensor) for tensor in header.tensors),
        weights=_weights(tensors, n_layer),
        architecture=arch,
    )


def _rows(tensors: dict[str, TensorInfo], name: str) -> tuple[int, int] | None:
    shape = tensors[name].shape if name in tensors else ()
    return (shape[-2], shape[-1]) if len(shape) >= 2 else None


def _parameters(tensor: TensorInfo) -> int:
    count = 1
    for dim in tensor.shape:
        count *= dim
    return count


def _width(tensors: dict[str, TensorInfo], matrix: str) -> int:
    """The rows of the matrices of this name; 0 if there are none."""
    widths = [
        tensor.shape[-2]
        for name, tensor in tensors.items()
        if len(tensor.shape) >= 2 and name.endswith(f".{matrix}.weight")
    ]
    return max(widths, default=0)


def _kv_widths(
    header: Header, arch: str, tensors: dict[str, TensorInfo], layer: int, n_embd: int
) -> tuple[int, int]:
    keys = _rows(tensors, f"blk.{layer}.attn_k.weight")
    values = _rows(tensors, f"blk.{layer}.attn_v.weight")
    if keys and values:
        return keys[0], values[0]
    heads = _for_layer(header, f"{arch}.attention.head_count", layer, 0)
    kv_heads = _for_layer(header, f"{arch}.attention.head_count_kv", layer, heads)
    head_size = n_embd // heads if heads > 0 else 0
    lengths = (
        header.integer(f"{arch}.attention.key_length", head_size),
        header.integer(f"{arch}.attention.value_length", head_size),
    )
    if kv_heads < 0 or min(lengths) < 0:
        raise GGUFError(f"{header.path}: layer {layer} has {kv_heads} key heads of {lengths}")
    return kv_heads * lengths[0], kv_heads * lengths[1]


def _head_size(header: Header, arch: str, n_embd: int) -> int:
    heads = _for_layer(header, f"{arch}.attention.head_count", 0, 0)
    return header.integer(f"{arch}.attention.key_length", n_embd // heads if heads > 0 else 0)


def _for_layer(header: Header, key: str, layer: int, default: int) -> int:
    """The value of `key` for `layer`: a single number, or an array with one for each layer."""
    value = header.metadata.get(key)
    if value is None or value.type is not GGUFValueType.ARRAY:
        return header.integer(key, default)
    number = value.data[layer] if layer < len(value.data) else default
    if isinstance(number, bool) or not isinstance(number, int):
        raise GGUFError(f"{header.path}: metadata key {key!r} holds no integers")
    return number


def _weights(tensors: dict[str, TensorInfo], n_layer: int) -> tuple[Weight, ...]:
    weights = []
    for name, tensor in tensors.items():
        layer, experts = _LAYER.match(name), _EXPERTS.search(name)
        outside = -1 if _INPUT.match(name) else n_layer
        place = int(layer[1]) if layer else outside
        projection = experts[1] if experts else ""
        group, kind = tensor_group(name), tensor.type.name
        weights.append(Weight(name, tensor.nbytes, group, place, projection, kind, tensor.shape))
    if "output.weight" not in tensors:
        tied = tensors["token_embd.weight"]
        kind, dimensions = tied.type.name, tied.shape
        weights.append(
            Weight(
                tied.name, tied.nbytes, "embeddings", n_layer, "", kind, dimensions, is_tied=True
            )
        )
    return tuple(weights)
