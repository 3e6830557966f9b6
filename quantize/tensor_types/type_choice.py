"""Which block format each tensor gets: llama-quantize's presets, overrides and fallbacks. Pure.

A port of the policy in llama.cpp's src/llama-quant.cpp (as shipped in llama-cpp-python 0.3.36),
restricted to the architecture `llama`, which every Llama, Mistral and Mixtral model has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.common.errors import RecipeError

from .type_presets import Preset, Type

_FULL_PRECISION = (Type.F32, Type.F16, Type.BF16)

_FALLBACKS = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.IQ4_XS: Type.IQ4_NL,
}


@dataclass(frozen=True)
class Tensor:
    """What the policy needs to know about a tensor."""

    name: str
    shape: tuple[int, ...]
    """In numpy order: the row length is last."""
    type: Type
    """Its type in the source, kept if the tensor is not quantized."""


@dataclass(frozen=True)
class PolicyModel:
    """What the policy needs to know about the model."""

    layers: int
    experts: int
    heads: int
    kv_heads: int

    @property
    def gqa(self) -> int:
        """Query heads per key-value head."""
        return self.heads // self.kv_heads


@dataclass(frozen=True)
class Overrides:
    """llama-quantize's options that override a preset."""

    tensor_types: tuple[tuple[str, Type], ...] = ()
    """(regular expression, type): the first that matches a part of a tensor's name applies."""
    token_embedding: Type | None = None
    output: Type | None = None
    pure: bool = False
    leave_output: bool = False
    patterns: tuple[tuple[re.Pattern[str], Type], ...] = field(init=False)

    def __post_init__(self) -> None:
        try:
            patterns = tuple((re.compile(p.lower()), t) for p, t in self.tensor_types)
        except re.error as error:
            raise RecipeError(
                f"--tensor-type {error.pattern!r} is not a valid regular expression: {error}"
            ) from None
        object.__setattr__(self, "patterns", patterns)


@dataclass(frozen=True)
class Choice:
    """The type that a tensor gets, and the type chosen for it before any fallback."""

    type: Type
    wanted: Type

    @property
    def fell_back(self) -> bool:
        """True if the row length is not a multiple of the wanted type's block."""
        return self.type is not self.wanted


def layer_of(name: str) -> int:
    """The N of `blk.N.`, or -1 for a tensor outside the layers."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match[1]) if match else -1


def file_order(name: str) -> tuple[int, bytes]:
    """The sort key for llama-quantize's tensor order: by layer, then by name."""
    return layer_of(name), name.encode()


def is_quantizable(name: str, shape: tuple[int, ...], leave_output: bool = False) -> bool:
    """Whether llama-quantize would quantize the tensor: a matrix that is not a norm or a router.

    A matrix of one row is a vector to ggml, which does not count trailing dimensions of 1.
    """
    return (
        prod(shape[:-1]) > 1
        and name.endswith("weight")
        and "_norm.weight" not in name
        and "ffn_gate_inp.weight" not in name
        and not (leave_output and name == "output.weight")
    )


def choose_types(
    tensors: Sequence[Tensor],
    model: PolicyModel,
    preset: Preset,
    overrides: Overrides | None = None,
    has_imatrix: bool = False,
) -> list[Choice]:
    """The type of every tensor, in the order given, as llama-quantize would choose it.

    Raises RecipeError for Q2_K_S without an imatrix, for a MoE preset on a dense model, for a
    --tensor-type pattern that matches no tensor (llama-quantize ignores it), and for a type given
    by --output-tensor-type, --token-embedding-type or --pure whose block does not divide the rows.
    """
    overrides = overrides or Overrides()
    if preset.name == "Q2_K_S" and not has_imatrix:
        raise RecipeError("Q2_K_S needs an importance matrix; add --imatrix FILE or use Q2_K")
    if preset.exceptions and model.experts < 2:
        raise RecipeError(f"{preset.name} is for mixtures of experts; use {preset.like}")
    _check_patterns(overrides, tensors)
    in_file_order = sorted(tensors, key=lambda tensor: file_order(tensor.name))
    rules = _Rules(
        model,
        preset,
        overrides,
        has_imatrix,
        tied=all(tensor.name != "output.weight" for tensor in tensors),
        attn_v_count=sum("attn_v.weight" in tensor.name for tensor in tensors),
        attn_v=_counted("attn_v.weight", in_file_order, overrides),
        ffn_down=_counted("ffn_down", in_file_order, overrides),
    )
    return [_choose(tensor, rules) for tensor in tensors]


@dataclass(frozen=True)
class _Rules:
    model: PolicyModel
    preset: Preset
    overrides: Overrides
    has_imatrix: bool
    tied: bool
    attn_v_count: int
    attn_v: dict[str, int]
    """Index of each attn_v that no pattern overrides: llama-quantize counts these, not layers."""
    ffn_down: dict[str, int]
    """The same for ffn_down; only for a mixture of experts the layer's number is used instead."""


def _counted(part: str, tensors: Sequence[Tensor], overrides: Overrides) -> dict[str, int]:
    names = (t.name for t in tensors if part in t.name and is_quantizable(t.name, t.shape))
    left = (n for n in names if not any(pattern.search(n) for pattern, _ in overrides.patterns))
    return {name: i for i, name in enumerate(left)}


def _choose(tensor: Tensor, rules: _Rules) -> Choice:
    overrides = rules.overrides
    if not is_quantizable(tensor.name, tensor.shape, overrides.leave_output):
        return Choice(tensor.type, tensor.type)
    explicit = {
        "token_embd.weight": overrides.token_embedding,
        "output.weight": overrides.output,
    }.get(tensor.name)
    if explicit is not None:
        return _exactly(tensor, explicit)
    if rules.preset.default in _FULL_PRECISION:
        return Choice(rules.preset.default, rules.preset.default)
    for pattern, kind in overrides.patterns:
        if pattern.search(tensor.name):
            return _fitting(tensor, kind)
    if overrides.pure:
        return _exactly(tensor, rules.preset.default)
    return _fitting(tensor, _by_preset(tensor, rules))


def _by_preset(tensor: Tensor, rules: _Rules) -> Type:
    default = rules.preset.default
    if tensor.name == "output.weight" or (tensor.name == "token_embd.weight" and rules.tied):
        if rules.overrides.output is not None:
            return rules.overrides.output
        if tensor.shape[-1] % GGML_QUANT_SIZES[default][0]:
            return Type.Q8_0
        return default if default is Type.Q8_0 else Type.Q6_K
    for part, kind in rules.preset.exceptions:
        if part in tensor.name:
            return kind
    if "attn_v.weight" in tensor.name:
        return _attn_v(rules.attn_v[tensor.name], rules)
    if "attn_k.weight" in tensor.name:
        return Type.Q8_0 if rules.model.experts == 8 else default
    if "ffn_down" in tensor.name:
        moe = rules.model.experts > 1
        return _ffn_down(layer_of(tensor.name) if moe else rules.ffn_down[tensor.name], rules)
    if "attn_output.weight" in tensor.name:
        return _attn_output(rules)
    return default


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third in between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _attn_v(i: int, rules: _Rules) -> Type:
    model, default, n = rules.model, rules.preset.default, rules.attn_v_count
    by_preset: dict[str, Callable[[], Type]] = {
        "Q2_K": lambda: Type.Q4_K if model.gqa >= 4 else Type.Q3_K,
        "Q2_K_S": lambda: Type.Q4_K if model.gqa >= 4 else default,
        "Q3_K_M": lambda: Type.Q5_K if i < 2 else Type.Q4_K,
        "Q3_K_L": lambda: Type.Q5_K,
        "Q4_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q5_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q4_K_S": lambda: Type.Q5_K if i < 4 else default,
        "IQ4_NL": lambda: Type.Q5_K if model.gqa >= 4 else default,
        "IQ4_XS": lambda: Type.Q5_K if model.gqa >= 4 else default,
    }
    kind = by_preset.get(rules.preset.rules, lambda: default)()
    # llama.cpp recognizes a 70B model by its 80 layers and grouped queries.
    if (
        model.layers == 80
        and model.gqa > 1
        and not model.experts
        and kind in (Type.Q3_K, Type.Q4_K)
    ):
        kind = Type.Q5_K
    return Type.Q8_0 if model.experts == 8 else kind


def _ffn_down(i: int, rules: _Rules) -> Type:
    default, n = rules.preset.default, rules.model.layers
    by_preset: dict[str, Callable[[], Type]] = {
        "Q2_K": lambda: Type.Q3_K,
        "Q2_K_S": lambda: Type.Q4_K if i < n // 8 else default,
        "Q3_K_M": lambda: Type.Q5_K if i < n // 16 else Type.Q4_K,
        "Q3_K_L": lambda: Type.Q5_K,
        "Q4_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q5_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q4_K_S": lambda: Type.Q5_K if i < n // 8 else default,
        "IQ4_NL": lambda: Type.Q5_K if i < n // 8 and not rules.has_imatrix else default,
        "IQ4_XS": lambda: Type.Q5_K if i < n // 8 and not rules.has_imatrix else default,
        "Q4_0": lambda: Type.Q4_1 if i < n // 8 and rules.has_imatrix else default,
        "Q5_0": lambda: Type.Q5_1 if i < n // 8 and rules.has_imatrix else default,
    }
    return by_preset.get(rules.preset.rules, lambda: default)()


def _attn_output(rules: _Rules) -> Type:
    default = rules.preset.default
    if rules.model.experts == 8:
        low = {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"}
        return Type.Q5_K if rules.preset.rules in low else default
    return {"Q2_K": Type.Q3_K, "Q3_K_M": Type.Q4_K, "Q3_K_L": Type.Q5_K}.get(
        rules.preset.rules, default
    )


def _fitting(tensor: Tensor, wanted: Type) -> Choice:
    """`wanted`, or llama-quantize's fallback if the row length is not a multiple of its block."""
    kind = wanted
    if tensor.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = _FALLBACKS.get(kind, kind)
    if tensor.shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = Type.F16
    return Choice(kind, wanted)


def _exactly(tensor: Tensor, kind: Type) -> Choice:
    block_len = GGML_QUANT_SIZES[kind][0]
    if tensor.shape[-1] % block_len:
        raise RecipeError(
            f"tensor {tensor.name!r} has rows of {tensor.shape[-1]} weights, not a multiple of "
            f"{kind.name}'s block of {block_len}; choose another type for it"
        )
    return Choice(kind, kind)


def _check_patterns(overrides: Overrides, tensors: Sequence[Tensor]) -> None:
    for pattern, _ in overrides.patterns:
        if not any(pattern.search(tensor.name) for tensor in tensors):
            raise RecipeError(f"--tensor-type {pattern.pattern!r} matches no tensor of this model")
