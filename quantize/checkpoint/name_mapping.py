"""Map checkpoint tensors to GGUF tensors: names, stacked experts, ranges of rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from gguf import GGMLQuantizationType

from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.tensor_types.type_choice import file_order

from .families.family import Experts
from .model_config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]

_EMBEDDINGS = "model.embed_tokens.weight"


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of one checkpoint tensor, whose axes but the last are flattened.

    A piece is one matrix: an expert's, or the whole of a two-dimensional tensor.
    """

    source: str
    start: int
    stop: int


@dataclass(frozen=True)
class MappedTensor:
    """A GGUF tensor, and the pieces of the checkpoint that it consists of, in order."""

    name: str
    shape: tuple[int, ...]
    """numpy order: (rows, cols), (experts, rows, cols) or (cols,)."""
    pieces: tuple[Piece, ...]
    rotary_heads: int = 0
    """Number of query or key heads whose rows must be interleaved; 0 for other tensors."""

    @property
    def rows(self) -> int:
        """The product of all axes but the last."""
        return prod(self.shape[:-1])

    @property
    def cols(self) -> int:
        """The length of a row."""
        return self.shape[-1]


@dataclass(frozen=True)
class SourceTensor(MappedTensor):
    """A tensor of a source, with its type there and its type if it is not quantized."""

    stored: GGMLQuantizationType = GGMLQuantizationType.F32
    """The type its rows have in the source."""
    kept: GGMLQuantizationType = GGMLQuantizationType.F32
    """The type it is written in if it is not quantized."""


@dataclass(frozen=True)
class _Rule:
    """A GGUF tensor that is one whole checkpoint tensor: its name and expected shape."""

    name: str
    source: str
    shape: tuple[int, ...]
    rotary_heads: int = 0
    optional: bool = False


def map_tensors(config: ModelConfig, shapes: Shapes) -> list[MappedTensor]:
    """Every tensor of the GGUF, in llama-quantize's order (by layer, then by name).

    `shapes` are the checkpoint's tensors. Both expert layouts give the same list: one tensor per
    expert (such as `block_sparse_moe.experts.E.w1`, see families/) or all experts in one
    (`mlp.experts.gate_up_proj` [E, 2*ff, hidden] with the gate's rows first,
    `mlp.experts.down_proj` [E, hidden, ff]).
    Raises CheckpointError for a tensor that is missing, differs from the shape in config.json, or
    does not belong to this architecture.
    """
    mapped = [
        _whole(rule, shapes)
        for rule in (*_outside_layers(config), *_inside_layers(config, shapes))
        if rule.source in shapes or not rule.optional
    ]
    if (experts := config.family.experts) is not None:
        for layer in range(config.leading_dense, config.layers):
            mapped += _experts(layer, config, experts, shapes)
    _check_all_used(mapped, config, shapes)
    return sorted(mapped, key=lambda tensor: file_order(tensor.name))


def _outside_layers(config: ModelConfig) -> Iterator[_Rule]:
    table = (config.vocab_size, config.hidden_size)
    yield _Rule("token_embd.weight", _EMBEDDINGS, table)
    yield _Rule("output_norm.weight", "model.norm.weight", (config.hidden_size,))
    if config.tied and not config.family.ties_output:
        yield _Rule("output.weight", _EMBEDDINGS, table)
    else:
        yield _Rule("output.weight", "lm_head.weight", table, optional=config.tied)


def _inside_layers(config: ModelConfig, shapes: Shapes) -> Iterator[_Rule]:
    for layer in range(config.layers):
        hf, ours = f"model.layers.{layer}.", f"blk.{layer}."
        norm = (config.hidden_size,)
        yield from _attention(hf, ours, config)
        yield _Rule(f"{ours}attn_norm.weight", f"{hf}input_layernorm.weight", norm)
        yield _Rule(f"{ours}ffn_norm.weight", f"{hf}post_attention_layernorm.weight", norm)
        if config.experts and layer >= config.leading_dense:
            yield from _beside_experts(layer, config, shapes)
        else:
            yield from _feed_forward(f"{hf}mlp", ours, "", config, config.feed_forward)


def _attention(hf: str, ours: str, config: ModelConfig) -> Iterator[_Rule]:
    hidden, family = config.hidden_size, config.family
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    q_heads, kv_heads = (config.heads, config.kv_heads) if family.rotary_pairs else (0, 0)
    for name, source, shape, heads in (
        ("attn_q", "q_proj", (q, hidden), q_heads),
        ("attn_k", "k_proj", (kv, hidden), kv_heads),
        ("attn_v", "v_proj", (kv, hidden), 0),
        ("attn_output", "o_proj", (hidden, q), 0),
    ):
        yield from _matrix(f"{ours}{name}", f"{hf}self_attn.{source}", shape, config, heads)
    if family.qk_norm:
        for name, source in (("attn_q_norm", "q_norm"), ("attn_k_norm", "k_norm")):
            hf_name = f"{hf}self_attn.{source}.weight"
            yield _Rule(f"{ours}{name}.weight", hf_name, (config.head_dim,))


def _feed_forward(
    hf: str, ours: str, suffix: str, config: ModelConfig, width: int
) -> Iterator[_Rule]:
    hidden = config.hidden_size
    for name, shape in (
        ("gate", (width, hidden)),
        ("up", (width, hidden)),
        ("down", (hidden, width)),
    ):
        yield from _matrix(f"{ours}ffn_{name}{suffix}", f"{hf}.{name}_proj", shape, config)


def _matrix(
    name: str, source: str, shape: tuple[int, int], config: ModelConfig, heads: int = 0
) -> Iterator[_Rule]:
    yield _Rule(f"{name}.weight", f"{source}.weight", shape, heads)
    if name.rpartition(".")[2] in config.family.biases:
        yield _Rule(f"{name}.bias", f"{source}.bias", shape[:1], heads, optional=True)


def _beside_experts(layer: int, config: ModelConfig, shapes: Shapes) -> Iterator[_Rule]:
    """The router, and the shared expert with its gate."""
    experts, ours = config.family.experts, f"blk.{layer}."
    assert experts is not None
    fused = f"model.layers.{layer}.mlp.gate.weight"
    router = fused if fused in shapes else experts.router(layer)
    yield _Rule(f"{ours}ffn_gate_inp.weight", router, (config.experts, config.hidden_size))
    if (shared := experts.shared) is None:
        return
    network, width = shared.network(layer), config.shared_feed_forward
    yield from _feed_forward(network, ours, "_shexp", config, width)
    if shared.gate:
        shape = (1, config.hidden_size)
        yield _Rule(f"{ours}ffn_gate_inp_shexp.weight", shared.gate_weight(layer), shape)


def _whole(rule: _Rule, shapes: Shapes) -> MappedTensor:
    _check_shape(rule.source, rule.shape, shapes)
    rows = prod(rule.shape[:-1])
    return MappedTensor(rule.name, rule.shape, (Piece(rule.source, 0, rows),), rule.rotary_heads)


def _experts(
    layer: int, config: ModelConfig, experts: Experts, shapes: Shapes
) -> Iterator[MappedTensor]:
    count, hidden, ff = config.experts, config.hidden_size, config.expert_feed_forward
    fused = f"model.layers.{layer}.mlp.experts"
    if f"{fused}.gate_up_proj" in shapes:
        _check_shape(f"{fused}.gate_up_proj", (count, 2 * ff, hidden), shapes)
        _check_shape(f"{fused}.down_proj", (count, hidden, ff), shapes)
        gate, up = (
            tuple(
                Piece(f"{fused}.gate_up_proj", 2 * ff * e + first, 2 * ff * e + first + ff)
                for e in range(count)
            )
            for first in (0, ff)
        )
        down = tuple(
            Piece(f"{fused}.down_proj", hidden * e, hidden * (e + 1)) for e in range(count)
        )
    else:
        gate, up, down = (
            _per_expert(
                [experts.matrix(layer, expert, part) for expert in range(count)], shape, shapes
            )
            for part, shape in (
                (experts.gate, (ff, hidden)),
                (experts.up, (ff, hidden)),
                (experts.down, (hidden, ff)),
            )
        )
    yield MappedTensor(f"blk.{layer}.ffn_gate_exps.weight", (count, ff, hidden), gate)
    yield MappedTensor(f"blk.{layer}.ffn_up_exps.weight", (count, ff, hidden), up)
    yield MappedTensor(f"blk.{layer}.ffn_down_exps.weight", (count, hidden, ff), down)


def _per_expert(names: list[str], shape: tuple[int, int], shapes: Shapes) -> tuple[Piece, ...]:
    for name in names:
        _check_shape(name, shape, shapes)
    return tuple(Piece(name, 0, shape[0]) for name in names)


def _check_shape(name: str, shape: tuple[int, ...], shapes: Shapes) -> None:
    if name not in shapes:
        raise CheckpointError(
            f"tensor {name!r} is missing from the checkpoint; check that every shard is there and "
            "that config.json belongs to these weights"
        )
    if shapes[name] != shape:
        raise CheckpointError(
            f"tensor {name!r} has the shape {list(shapes[name])}, but config.json asks for "
            f"{list(shape)}; the weights and config.json do not belong together"
        )


def _check_all_used(mapped: list[MappedTensor], config: ModelConfig, shapes: Shapes) -> None:
    used = {piece.source for tensor in mapped for piece in tensor.pieces}
    # Old exports store the rotary frequencies, which every loader computes.
    left = [name for name in shapes if name not in used and not name.endswith(".inv_freq")]
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        experts = config.family.experts
        fields = "num_hidden_layers" + (f" and {experts.count[0]}" if experts else "")
        raise CheckpointError(
            f"tensor {left[0]!r}{more} does not belong to this architecture; check {fields} in "
            "config.json"
        )
