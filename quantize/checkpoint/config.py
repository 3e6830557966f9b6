"""Read config.json, of transformers 4 or 5, as a checked ModelConfig."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from franken_gguf.quantize.common.errors import CheckpointError, shown
from franken_gguf.quantize.common.json_files import read_object

from .families.family import Experts, Family
from .families.table import FAMILIES
from .model_config import ROPE_SCALINGS, ModelConfig, RopeScaling

# llama.cpp's limits (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS in src/llama-hparams.h).
_MAX_LAYERS = 512
_MAX_EXPERTS = 1024
_MAX_HEADS = 1 << 16
_MAX_WIDTH = 1 << 24
_MAX_U32 = (1 << 32) - 1
_MAX_F32 = float(np.finfo(np.float32).max)


def read_config(folder: Path) -> ModelConfig:
    """Read and check `folder`/config.json.

    Both generations of names are understood: `rope_theta` and `rope_scaling` (transformers 4),
    `rope_parameters` (transformers 5). A missing field gets the default of its class, as in
    transformers; the sizes of the model have no defaults. Raises CheckpointError for an unknown
    architecture, an unsupported rope scaling or activation, quantized weights, and for fields that
    are missing, of the wrong type or out of range.
    """
    fields = _Fields(folder / "config.json", read_object(folder / "config.json", CheckpointError))
    family = _family(fields)
    _refuse_what_llama_cpp_would_ignore(fields, family)
    hidden = fields.integer("hidden_size", most=_MAX_WIDTH)
    heads = fields.integer("num_attention_heads", most=_MAX_HEADS)
    kv_heads = _kv_heads(fields, family, heads)
    head_dim, states_head_dim = _head_dim(fields, family, hidden, heads)
    context_length = fields.integer("max_position_embeddings", default=family.context_length)
    rope_theta, rope_scaling = _rope(fields, family, context_length)
    dense = ModelConfig(
        family=family,
        layers=fields.integer("num_hidden_layers", most=_MAX_LAYERS),
        hidden_size=hidden,
        feed_forward=fields.integer("intermediate_size", most=_MAX_WIDTH),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        states_head_dim=states_head_dim,
        vocab_size=fields.integer("vocab_size", most=_MAX_WIDTH),
        context_length=context_length,
        rms_norm_eps=fields.number("rms_norm_eps", default=family.rms_norm_eps, most=1.0),
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        tied=fields.flag("tie_word_embeddings"),
    )
    return dense if family.experts is None else _with_experts(dense, fields, family.experts)


class _Fields:
    """One JSON object of a config file, and the checks on its values."""

    def __init__(self, path: Path, values: dict[str, Any], where: str = "") -> None:
        self._path = path
        self._where = where
        self.values = values

    def error(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {self._where}{problem}")

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(
        self, key: str, *, least: int = 1, most: int = _MAX_U32, default: int | None = None
    ) -> int:
        """An integer from `least` to `most`; absent or null gives the default."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.error(f"{key} is missing")
            return default
        # In Python, but not in JSON, true is the integer 1.
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"{key} is {shown(value)}, not an integer")
        if not least <= value <= most:
            raise self.error(f"{key} is {shown(value)}, not in the range {least} to {most}")
        return value

    def number(self, key: str, *, default: float | None = None, most: float = _MAX_F32) -> float:
        """A finite number above 0 and up to `most`; absent or null gives the default."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.error(f"{key} is missing")
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"{key} is {shown(value)}, not a number")
        if not 0 < value <= most or math.isnan(value):
            raise self.error(f"{key} is {shown(value)}, not above 0 and at most {most:g}")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if self.has(key) else None

    def flag(self, key: str) -> bool:
        """True or False; absent or null is False."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{key} is {shown(value)}, not true or false")
        return bool(value)

    def inner(self, key: str) -> _Fields | None:
        """The object under `key`; None when absent, null or empty."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(f"{key} is {shown(value)}, not an object")
        return _Fields(self._path, value, f"{key}: ") if value else None


def _family(fields: _Fields) -> Family:
    classes = fields.values.get("architectures")
    known = ", ".join(sorted(FAMILIES))
    if not isinstance(classes, list) or not classes or not isinstance(classes[0], str):
        raise fields.error(f"architectures names no class; supported are {known}")
    if classes[0] not in FAMILIES:
        raise fields.error(f"unknown architecture {shown(classes[0])}; supported are {known}")
    return FAMILIES[classes[0]]


def _refuse_what_llama_cpp_would_ignore(fields: _Fields, family: Family) -> None:
    """Reject what GGUF's architecture cannot express: the output would be garbage."""
    activation = fields.values.get("hidden_act")
    if activation not in (None, "silu", "swish"):
        raise fields.error(f"hidden_act {shown(activation)} is not supported; only silu is")
    if fields.has("quantization_config"):
        raise fields.error(
            "the weights are quantized (quantization_config); convert the original checkpoint"
        )
    for key, value in family.only.items():
        if fields.has(key) and fields.values[key] != value:
            raise fields.error(
                f"{key} {shown(fields.values[key])} is not supported; llama.cpp's "
                f"{family.architecture} only has {shown(value)}"
            )


def _head_dim(fields: _Fields, family: Family, hidden: int, heads: int) -> tuple[int, bool]:
    """(head_dim, whether the GGUF states it)."""
    head_dim = fields.integer("head_dim", most=_MAX_WIDTH, default=family.head_dim or 0)
    is_stated = family.writes_head_dim or fields.has("head_dim")
    if not head_dim:
        if hidden % heads:
            raise fields.error(f"hidden_size {hidden} is not a multiple of {heads} attention heads")
        head_dim = hidden // heads
    if head_dim % 2:
        raise fields.error(f"head_dim {head_dim} is odd; rotary embeddings need an even one")
    if family.square_attention and heads * head_dim != hidden:
        raise fields.error(
            f"{heads} heads of head_dim {head_dim} are not hidden_size {hidden}, as llama.cpp's "
            f"{family.architecture} needs"
        )
    return head_dim, is_stated


def _kv_heads(fields: _Fields, family: Family, heads: int) -> int:
    default = heads
    if "num_key_value_heads" not in fields.values and family.kv_heads is not None:
        default = family.kv_heads
    kv_heads = fields.integer("num_key_value_heads", most=_MAX_HEADS, default=default)
    if heads % kv_heads:
        raise fields.error(f"{heads} attention heads cannot share {kv_heads} key-value heads")
    return kv_heads


def _with_experts(dense: ModelConfig, fields: _Fields, experts: Experts) -> ModelConfig:
    count_field = next((key for key in experts.count if fields.has(key)), experts.count[0])
    count = fields.integer(count_field, most=_MAX_EXPERTS)
    used = fields.integer("num_experts_per_tok", default=experts.used)
    if used > count:
        raise fields.error(f"num_experts_per_tok {used} is more than the {count} experts")
    width = fields.integer(experts.width, most=_MAX_WIDTH)
    shared_width = shared_count = 0
    if experts.shared is not None and experts.shared.width:
        shared_width = fields.integer(experts.shared.width, most=_MAX_WIDTH)
    elif experts.shared is not None and experts.shared.count:
        shared_count = fields.integer(experts.shared.count, most=_MAX_EXPERTS)
        shared_width = shared_count * width
    leading = experts.leading_dense
    return replace(
        dense,
        experts=count,
        experts_used=used,
        expert_feed_forward=width,
        shared_feed_forward=shared_width,
        shared_experts=shared_count,
        leading_dense=0 if leading is None else fields.integer(leading, least=0, default=0),
        scores=fields.has("scoring_func"),
        normalizes=fields.flag("norm_topk_prob") if fields.has("norm_topk_prob") else None,
    )


def _rope(fields: _Fields, family: Family, context_length: int) -> tuple[float, RopeScaling | None]:
    """(theta, scaling). A rope_scaling that is not empty takes precedence over rope_parameters."""
    theta = fields.number("rope_theta", default=family.rope_theta)
    partial = fields.values.get("partial_rotary_factor")
    rope = fields.inner("rope_scaling") or fields.inner("rope_parameters")
    if rope is not None:
        theta = rope.number("rope_theta", default=theta)
        partial = rope.values.get("partial_rotary_factor", partial)
    if partial not in (None, 1, 1.0):
        raise fields.error(f"partial_rotary_factor {shown(partial)} is not supported; only 1 is")
    if rope is None:
        return theta, None

    kind = rope.values.get("rope_type", rope.values.get("type"))
    if kind is None and any(isinstance(value, dict) for value in rope.values.values()):
        raise rope.error("rope parameters that differ between layers are not supported")
    if kind in (None, "default"):
        return theta, None
    if kind in ROPE_SCALINGS and kind not in family.rope_scalings:
        raise rope.error(
            f"rope scaling {shown(kind)} is not supported by llama.cpp's {family.architecture}"
        )
    return theta, _scaling(kind, rope, fields, context_length)


def _scaling(kind: object, rope: _Fields, fields: _Fields, context_length: int) -> RopeScaling:
    """The scaling that `rope` describes; raises for a kind that llama.cpp does not have."""
    if kind == "linear":
        return RopeScaling("linear", rope.number("factor"))
    top = fields if fields.has("original_max_position_embeddings") else rope
    original = top.integer("original_max_position_embeddings", default=context_length)
    if kind == "yarn":
        attention = "attention_factor" if rope.has("attention_factor") else "attn_factor"
        return RopeScaling(
            "yarn",
            rope.number("factor"),
            original_context_length=original,
            extrapolation_factor=rope.optional_number("extrapolation_factor"),
            attention_factor=rope.optional_number(attention),
            beta_fast=rope.optional_number("beta_fast"),
            beta_slow=rope.optional_number("beta_slow"),
        )
    if kind == "llama3":
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        if low >= high:
            raise rope.error(f"low_freq_factor {low} is not below high_freq_factor {high}")
        return RopeScaling(
            "llama3",
            rope.number("factor"),
            original_context_length=original,
            low_freq_factor=low,
            high_freq_factor=high,
        )
    raise rope.error(
        f"rope scaling {shown(kind)} is not supported; only default, linear, yarn and llama3 are"
    )
