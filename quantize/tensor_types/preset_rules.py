"""llama-quantize's rules: which type a preset gives to a tensor, whatever its row length. Pure.

A port of llama_tensor_get_type_impl in llama.cpp's src/llama-quant.cpp (as shipped in
llama-cpp-python 0.3.36), restricted to the architecture `llama`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES

from .type_presets import Type

_MAINLY_ONE_OR_TWO_BITS = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"}
_TWO_AND_A_HALF_BITS = {"IQ2_S", "IQ2_M"}
_OUTPUT_IN_Q5_K = _MAINLY_ONE_OR_TWO_BITS | {"IQ3_XXS"}
_EMBEDDINGS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), Type.Q2_K),
    **dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), Type.IQ3_S),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), Type.Q4_K),
}
# Of a mixture of 8 experts, whose attention is a small part.
_ATTN_OUTPUT_IN_Q5_K = {
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"),
    *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"),
}
_ATTN_OUTPUT = {
    "Q2_K": Type.Q3_K,
    "Q3_K_M": Type.Q4_K,
    "Q3_K_L": Type.Q5_K,
    "IQ3_XXS": Type.IQ3_S,
    "IQ3_M": Type.Q4_K,
}
_ATTN_K_AND_Q = {"IQ3_XS": Type.IQ3_XXS, "IQ3_XXS": Type.IQ2_S}


@dataclass(frozen=True)
class Situation:
    """What the rules depend on besides the tensor."""

    preset: str
    """llama-quantize's name of the preset."""
    default: Type
    layers: int
    experts: int
    gqa: int
    """Query heads per key-value head."""
    has_imatrix: bool
    attn_v_count: int

    @property
    def is_eight(self) -> bool:
        """Whether the rules for Mixtral 8x7B apply."""
        return self.experts == 8

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp takes the model for a Llama 70B."""
        return self.layers == 80 and self.gqa > 1 and not self.experts


def output_type(cols: int, of: Situation) -> Type:
    """The type of output.weight, or of the token embeddings that serve as it."""
    if of.preset == "MXFP4_MOE" or cols % GGML_QUANT_SIZES[of.default][0]:
        return Type.Q8_0
    if of.preset in _OUTPUT_IN_Q5_K:
        return Type.Q5_K
    return of.default if of.default is Type.Q8_0 else Type.Q6_K


def tensor_type(
    name: str, shape: tuple[int, ...], of: Situation, places: Mapping[str, int], layer: int
) -> Type:
    """The type of any other matrix.

    `places` has, for attn_v, ffn_down, ffn_gate and ffn_up, how many of the kind come before. For
    most rules the place of a mixture's ffn_* is its `layer` instead.
    """
    if of.preset == "MXFP4_MOE":
        return Type.MXFP4 if len(shape) == 3 and shape[0] > 1 else Type.Q8_0
    if name == "token_embd.weight":
        return _EMBEDDINGS.get(of.preset, of.default)
    if of.preset in _MAINLY_ONE_OR_TWO_BITS:
        return _mainly_one_or_two_bits(name, of, places.get(name, 0))
    if "attn_v.weight" in name:
        return _attn_v(places[name], of)
    if "attn_k.weight" in name:
        return Type.Q8_0 if of.is_eight else _ATTN_K_AND_Q.get(of.preset, of.default)
    if "attn_q.weight" in name:
        return _ATTN_K_AND_Q.get(of.preset, of.default)
    if "attn_output.weight" in name:
        return _attn_output(of)
    if "ffn_down" in name:
        return _ffn_down(layer if of.experts > 1 else places[name], of)
    if "ffn_gate" in name or "ffn_up" in name:
        return _ffn_gate_or_up(layer if of.experts > 1 else places[name], of)
    return of.default


def _mainly_one_or_two_bits(name: str, of: Situation, place: int) -> Type:
    better = Type.IQ3_S if of.preset in _TWO_AND_A_HALF_BITS else Type.Q2_K
    if "attn_v.weight" in name:
        return Type.Q4_K if of.gqa >= 4 or of.experts >= 4 else better
    if "attn_k.weight" in name and of.is_eight:
        return Type.Q4_K
    if "ffn_down" in name and place < of.layers // 8:
        return better
    if "attn_output.weight" in name:
        if of.is_eight:
            return Type.Q5_K
        if of.preset in ("IQ1_S", "IQ1_M"):
            return Type.IQ2_XXS
        return Type.IQ3_S if of.preset in _TWO_AND_A_HALF_BITS else of.default
    return of.default


def _more_bits(i: int, n: int) -> bool:
    """The first and last eighth of the layers, and every third in between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _attn_v(i: int, of: Situation) -> Type:
    default, grouped, n = of.default, of.gqa >= 4, of.attn_v_count
    by_preset: dict[str, Callable[[], Type]] = {
        "Q2_K": lambda: Type.Q4_K if grouped else Type.Q3_K,
        "Q2_K_S": lambda: Type.Q4_K if grouped else default,
        "IQ3_XXS": lambda: Type.Q4_K if grouped else Type.IQ3_XXS if of.has_imatrix else Type.IQ3_S,
        "IQ3_XS": lambda: Type.Q4_K if grouped else default,
        "IQ3_S": lambda: Type.Q4_K if grouped else default,
        "IQ3_M": lambda: Type.Q4_K,
        "Q3_K_M": lambda: Type.Q5_K if i < 2 else Type.Q4_K,
        "Q3_K_L": lambda: Type.Q5_K,
        "Q4_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q5_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q4_K_S": lambda: Type.Q5_K if i < 4 else default,
        "IQ4_NL": lambda: Type.Q5_K if grouped else default,
        "IQ4_XS": lambda: Type.Q5_K if grouped else default,
    }
    kind = by_preset.get(of.preset, lambda: default)()
    if of.is_70b and kind in (Type.Q3_K, Type.Q4_K):
        kind = Type.Q5_K
    return Type.Q8_0 if of.is_eight else kind


def _ffn_down(i: int, of: Situation) -> Type:
    default, n = of.default, of.layers
    first = i < n // 8
    by_preset: dict[str, Callable[[], Type]] = {
        "Q2_K": lambda: Type.Q3_K,
        "Q2_K_S": lambda: Type.Q4_K if first else default,
        "IQ3_XXS": lambda: default if of.has_imatrix else Type.Q4_K if first else Type.Q3_K,
        "IQ3_M": lambda: Type.Q4_K if first or (of.is_eight and _more_bits(i, n)) else default,
        "Q3_K_M": lambda: Type.Q5_K if i < n // 16 else Type.Q4_K,
        "Q3_K_L": lambda: Type.Q5_K,
        "Q4_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q5_K_M": lambda: Type.Q6_K if _more_bits(i, n) else default,
        "Q4_K_S": lambda: Type.Q5_K if first else default,
        "IQ4_NL": lambda: Type.Q5_K if first and not of.has_imatrix else default,
        "IQ4_XS": lambda: Type.Q5_K if first and not of.has_imatrix else default,
        "Q4_0": lambda: Type.Q4_1 if first and of.has_imatrix else default,
        "Q5_0": lambda: Type.Q5_1 if first and of.has_imatrix else default,
    }
    return by_preset.get(of.preset, lambda: default)()


def _ffn_gate_or_up(i: int, of: Situation) -> Type:
    between = of.layers // 8 <= i < 7 * of.layers // 8
    return Type.IQ3_XXS if of.preset == "IQ3_XS" and between else of.default


def _attn_output(of: Situation) -> Type:
    if of.is_eight:
        return Type.Q5_K if of.preset in _ATTN_OUTPUT_IN_Q5_K else of.default
    return _ATTN_OUTPUT.get(of.preset, of.default)
