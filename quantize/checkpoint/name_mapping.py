"""Map checkpoint tensors to GGUF tensors: names, stacked experts, ranges of rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from gguf import GGMLQuantizationType

from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.tensor_types.type_choice import file_order

from .architectures import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]


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
    expert (`block_sparse_moe.experts.E.w1/w2/w3`) or all experts in one (`mlp.experts.gate_up_proj`
    [E, 2*ff, hidden] with the gate's rows first, `mlp.experts.down_proj` [E, hidden, ff]).
    Raises CheckpointError for a tensor that is missing, differs from the shape in config.json, or
    does not belong to this architecture.
    """
    mapped = [
        _whole(rule, shapes)
        for rule in (*_outside_layers(config), *_inside_layers(config, shapes))
        if rule.source in shapes or not rule.optional
    ]
    if config.experts:
        mapped += [t for layer in range(config.layers) for t in _experts(layer, config, shapes)]
    _check_all_used(mapped, shapes)
    return sorted(mapped, key=lambda tensor: file_order(tensor.name))


def _outside_layers(config: ModelConfig) -> Iterator[_Rule]:
    table = (config.vocab_size, config.hidden_size)
    yield _Rule("token_embd.weight", "model.embed_tokens.weight", table)
    yield _Rule("output_norm.weight", "model.norm.weight", (config.hidden_size,))
    yield _Rule("output.weight", "lm_head.weight", table, optional=config.tied)


def _inside_layers(config: ModelConfig, shapes: Shapes) -> Iterator[_Rule]:
    hidden, ff = config.hidden_size, config.feed_forward
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for layer in range(config.layers):
        hf, ours = f"model.layers.{layer}.", f"blk.{layer}."
        attention = (
            ("attn_q", "q_proj", (q, hidden), config.heads),
            ("attn_k", "k_proj", (kv, hidden), config.kv_heads),
            ("attn_v", "v_proj", (kv, hidden), 0),
            ("attn_output", "o_proj", (hidden, q), 0),
        )
        for name, source, shape, heads in attention:
            hf_name = f"{hf}self_attn.{source}"
            yield _Rule(f"{ours}{name}.weight", f"{hf_name}.weight", shape, heads)
            yield _Rule(f"{ours}{name}.bias", f"{hf_name}.bias", shape[:1], heads, optional=True)
        yield _Rule(f"{ours}attn_norm.weight", f"{hf}input_layernorm.weight", (hidden,))
        yield _Rule(f"{ours}ffn_norm.weight", f"{hf}post_attention_layernorm.weight", (hidden,))
        if config.experts:
            block = "mlp" if f"{hf}mlp.gate.weight" in shapes else "block_sparse_moe"
            router = (config.experts, hidden)
            yield _Rule(f"{ours}ffn_gate_inp.weight", f"{hf}{block}.gate.weight", router)
        else:
            for name, shape in (
                ("gate", (ff, hidden)),
                ("up", (ff, hidden)),
                ("down", (hidden, ff)),
            ):
                ffn, source = f"{ours}ffn_{name}", f"{hf}mlp.{name}_proj"
                yield _Rule(f"{ffn}.weight", f"{source}.weight", shape)
                yield _Rule(f"{ffn}.bias", f"{source}.bias", shape[:1], optional=True)


def _whole(rule: _Rule, shapes: Shapes) -> MappedTensor:
    _check_shape(rule.source, rule.shape, shapes)
    rows = prod(rule.shape[:-1])
    return MappedTensor(rule.name, rule.shape, (Piece(rule.source, 0, rows),), rule.rotary_heads)


def _experts(layer: int, config: ModelConfig, shapes: Shapes) -> Iterator[MappedTensor]:
    count, hidden, ff = config.experts, config.hidden_size, config.feed_forward
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
        gate = _per_expert(layer, "w1", (ff, hidden), count, shapes)
        up = _per_expert(layer, "w3", (ff, hidden), count, shapes)
        down = _per_expert(layer, "w2", (hidden, ff), count, shapes)
    yield MappedTensor(f"blk.{layer}.ffn_gate_exps.weight", (count, ff, hidden), gate)
    yield MappedTensor(f"blk.{layer}.ffn_up_exps.weight", (count, ff, hidden), up)
    yield MappedTensor(f"blk.{layer}.ffn_down_exps.weight", (count, hidden, ff), down)


def _per_expert(
    layer: int, matrix: str, shape: tuple[int, int], count: int, shapes: Shapes
) -> tuple[Piece, ...]:
    names = [
        f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight"
        for expert in range(count)
    ]
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


def _check_all_used(mapped: list[MappedTensor], shapes: Shapes) -> None:
    used = {piece.source for tensor in mapped for piece in tensor.pieces}
    # Old exports store the rotary frequencies, which every loader computes.
    left = [name for name in shapes if name not in used and not name.endswith(".inv_freq")]
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise CheckpointError(
            f"tensor {left[0]!r}{more} does not belong to this architecture; check "
            "num_hidden_layers and num_local_experts in config.json"
        )
