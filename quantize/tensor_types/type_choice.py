"""Which block format each tensor gets: llama-quantize's presets, overrides and fallbacks. Pure.

A port of the policy in llama.cpp's src/llama-quant.cpp (as shipped in llama-cpp-python 0.3.36),
restricted to the architecture `llama`, which every Llama, Mistral and Mixtral model has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.common.errors import RecipeError

from .preset_rules import Situation, output_type, tensor_type
from .type_presets import Preset, Type

_FULL_PRECISION = (Type.F32, Type.F16, Type.BF16)

_FALLBACKS = {
    Type.Q2_K: Type.Q4_0,
    Type.Q3_K: Type.Q4_0,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
    Type.TQ1_0: Type.Q4_0,
    Type.TQ2_0: Type.Q4_0,
    Type.IQ1_S: Type.IQ4_NL,
    Type.IQ1_M: Type.IQ4_NL,
    Type.IQ2_XXS: Type.IQ4_NL,
    Type.IQ2_XS: Type.IQ4_NL,
    Type.IQ2_S: Type.IQ4_NL,
    Type.IQ3_XXS: Type.IQ4_NL,
    Type.IQ3_S: Type.IQ4_NL,
    Type.IQ4_XS: Type.IQ4_NL,
}
_WITHOUT_FALLBACK = {Type.Q1_0}
"""Types that llama-quantize refuses for rows whose length is not a multiple of their block."""
_IMPOSSIBLE = {Type(block.type_id) for block in FORMATS.values() if block.needs_importance}
"""Types that ggml cannot make without importances."""
_UNWISE = _IMPOSSIBLE | {Type.IQ1_M, Type.IQ2_S, Type.IQ3_XXS}
"""Types that llama-quantize does not make without them."""


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

    Raises RecipeError for a type that needs an imatrix without one, for a MoE preset on a dense
    model, for a --tensor-type pattern that matches no tensor (llama-quantize ignores it), and for a
    type given by --output-tensor-type, --token-embedding-type or --pure whose block does not divide
    the rows.
    """
    overrides = overrides or Overrides()
    if preset.exceptions and model.experts < 2:
        raise RecipeError(f"{preset.name} is for mixtures of experts; use {preset.like}")
    _check_patterns(overrides, tensors)
    rules = _Rules(
        preset,
        overrides,
        Situation(
            preset.rules,
            preset.default,
            model.layers,
            model.experts,
            model.gqa,
            has_imatrix,
            attn_v_count=sum("attn_v.weight" in tensor.name for tensor in tensors),
        ),
        tied=all(tensor.name != "output.weight" for tensor in tensors),
        places=_places(tensors, overrides),
    )
    choices = [_choose(tensor, rules) for tensor in tensors]
    if not has_imatrix and (found := needing_importance(tensors, choices, preset)):
        better = f" or use {preset.without_imatrix}" if preset.without_imatrix else ""
        raise RecipeError(
            f"tensor {found[0][0]!r} in {found[0][1].name} needs an importance matrix; "
            f"add --imatrix FILE{better}"
        )
    return choices


def needing_importance(
    tensors: Sequence[Tensor], choices: Sequence[Choice], preset: Preset
) -> list[tuple[str, Type]]:
    """The tensors that llama-quantize refuses to quantize without importances, and their types."""
    needing = []
    for tensor, choice in zip(tensors, choices, strict=True):
        lenient = tensor.name in ("token_embd.weight", "output.weight")
        wanted = _IMPOSSIBLE if lenient else _UNWISE
        in_q2_k_s = choice.type is Type.Q2_K and preset.name == "Q2_K_S" and not lenient
        if (choice.type in wanted or in_q2_k_s) and is_quantizable(tensor.name, tensor.shape):
            needing.append((tensor.name, choice.type))
    return needing


_COUNTED = ("attn_v.weight", "ffn_down", "ffn_gate", "ffn_up")


@dataclass(frozen=True)
class _Rules:
    preset: Preset
    overrides: Overrides
    situation: Situation
    tied: bool
    places: Mapping[str, int]
    """Index of each counted tensor among those of its kind that no pattern overrides."""


def _places(tensors: Sequence[Tensor], overrides: Overrides) -> dict[str, int]:
    left = [
        tensor.name
        for tensor in sorted(tensors, key=lambda tensor: file_order(tensor.name))
        if is_quantizable(tensor.name, tensor.shape)
        and not any(pattern.search(tensor.name) for pattern, _ in overrides.patterns)
    ]
    kinds = ([name for name in left if part in name] for part in _COUNTED)
    return {name: i for names in kinds for i, name in enumerate(names)}


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
    if tensor.name == "output.weight" or (tensor.name == "token_embd.weight" and rules.tied):
        if rules.overrides.output is not None:
            return rules.overrides.output
        return output_type(tensor.shape[-1], rules.situation)
    for part, kind in rules.preset.exceptions:
        if part in tensor.name:
            return kind
    layer = layer_of(tensor.name)
    return tensor_type(tensor.name, tensor.shape, rules.situation, rules.places, layer)


def _fitting(tensor: Tensor, wanted: Type) -> Choice:
    """`wanted`, or llama-quantize's fallback if the row length is not a multiple of its block."""
    if wanted in _WITHOUT_FALLBACK:
        return _exactly(tensor, wanted)
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
