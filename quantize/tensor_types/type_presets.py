"""The names that `-q` and the type options accept, and what they mean. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from gguf import GGMLQuantizationType, LlamaFileType

from franken_gguf.quantize.common.errors import RecipeError

Type = GGMLQuantizationType


@dataclass(frozen=True)
class Preset:
    """A preset for `-q`: the type of most tensors, and the file type recorded in the GGUF."""

    name: str
    file_type: LlamaFileType
    default: Type
    exceptions: tuple[tuple[str, Type], ...] = ()
    """(part of a tensor's name, type), the first match applies; only our own presets have them."""
    like: str = ""
    """The llama-quantize preset whose rules apply to all other tensors."""

    without_imatrix: str = ""
    """What to use instead if there is no importance matrix, where this preset needs one."""

    @property
    def rules(self) -> str:
        """The llama-quantize preset whose rules apply."""
        return self.like or self.name


_F = LlamaFileType
_WITHOUT_IMATRIX = {
    **dict.fromkeys(("Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"), "Q2_K"),
    **dict.fromkeys(("IQ3_XS", "IQ3_XXS"), "IQ3_S"),
}
LLAMA_PRESETS: dict[str, Preset] = {
    name: Preset(name, file_type, default, without_imatrix=_WITHOUT_IMATRIX.get(name, ""))
    for name, file_type, default in (
        ("F32", _F.ALL_F32, Type.F32),
        ("F16", _F.MOSTLY_F16, Type.F16),
        ("BF16", _F.MOSTLY_BF16, Type.BF16),
        ("Q8_0", _F.MOSTLY_Q8_0, Type.Q8_0),
        ("Q6_K", _F.MOSTLY_Q6_K, Type.Q6_K),
        ("Q5_K_M", _F.MOSTLY_Q5_K_M, Type.Q5_K),
        ("Q5_K_S", _F.MOSTLY_Q5_K_S, Type.Q5_K),
        ("Q5_1", _F.MOSTLY_Q5_1, Type.Q5_1),
        ("Q5_0", _F.MOSTLY_Q5_0, Type.Q5_0),
        ("Q4_K_M", _F.MOSTLY_Q4_K_M, Type.Q4_K),
        ("Q4_K_S", _F.MOSTLY_Q4_K_S, Type.Q4_K),
        ("Q4_1", _F.MOSTLY_Q4_1, Type.Q4_1),
        ("Q4_0", _F.MOSTLY_Q4_0, Type.Q4_0),
        ("IQ4_NL", _F.MOSTLY_IQ4_NL, Type.IQ4_NL),
        ("IQ4_XS", _F.MOSTLY_IQ4_XS, Type.IQ4_XS),
        ("Q3_K_L", _F.MOSTLY_Q3_K_L, Type.Q3_K),
        ("Q3_K_M", _F.MOSTLY_Q3_K_M, Type.Q3_K),
        ("Q3_K_S", _F.MOSTLY_Q3_K_S, Type.Q3_K),
        ("Q2_K", _F.MOSTLY_Q2_K, Type.Q2_K),
        ("Q2_K_S", _F.MOSTLY_Q2_K_S, Type.Q2_K),
        ("IQ3_M", _F.MOSTLY_IQ3_M, Type.IQ3_S),
        ("IQ3_S", _F.MOSTLY_IQ3_S, Type.IQ3_S),
        ("IQ3_XS", _F.MOSTLY_IQ3_XS, Type.IQ3_S),
        ("IQ3_XXS", _F.MOSTLY_IQ3_XXS, Type.IQ3_XXS),
        ("IQ2_M", _F.MOSTLY_IQ2_M, Type.IQ2_S),
        ("IQ2_S", _F.MOSTLY_IQ2_S, Type.IQ2_XS),
        ("IQ2_XS", _F.MOSTLY_IQ2_XS, Type.IQ2_XS),
        ("IQ2_XXS", _F.MOSTLY_IQ2_XXS, Type.IQ2_XXS),
        ("IQ1_M", _F.MOSTLY_IQ1_M, Type.IQ1_M),
        ("IQ1_S", _F.MOSTLY_IQ1_S, Type.IQ1_S),
        ("TQ2_0", _F.MOSTLY_TQ2_0, Type.TQ2_0),
        ("TQ1_0", _F.MOSTLY_TQ1_0, Type.TQ1_0),
        ("Q1_0", _F.MOSTLY_Q1_0, Type.Q1_0),
        ("MXFP4_MOE", _F.MOSTLY_MXFP4_MOE, Type.MXFP4),
    )
}
# Ours, for any number of experts. Keys and values in Q8_0 and the attention output in Q5_K are what
# llama-quantize chooses for models of exactly 8 experts. The bytes are saved on the experts' gate
# and up matrices, half of all weights and the least sensitive (see docs/log/tensor-types.md).
MOE_PRESETS: dict[str, Preset] = {
    "Q4_K_MOE": Preset(
        "Q4_K_MOE",
        _F.MOSTLY_Q4_K_M,
        Type.Q4_K,
        exceptions=(
            ("attn_v.", Type.Q8_0),
            ("attn_k.", Type.Q8_0),
            ("attn_output.", Type.Q5_K),
            ("ffn_gate_exps.", Type.IQ4_XS),
            ("ffn_up_exps.", Type.IQ4_XS),
        ),
        like="Q4_K_M",
    ),
}
PRESETS = LLAMA_PRESETS | MOE_PRESETS
# llama-quantize's own short names for the medium presets.
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def find_preset(name: str) -> Preset:
    """The preset called `name`, case ignored. RecipeError lists the known ones, nearest first."""
    upper = name.upper()
    preset = PRESETS.get(_ALIASES.get(upper, upper))
    if preset is None:
        raise RecipeError(f"unknown type {name!r}; known types: {_nearest_first(upper, PRESETS)}")
    return preset


def find_type(name: str) -> Type:
    """The tensor type `name`, case ignored. RecipeError lists the known ones, nearest first."""
    known = {preset.default.name: preset.default for preset in PRESETS.values()}
    try:
        return known[name.upper()]
    except KeyError:
        nearest = _nearest_first(name.upper(), known)
        raise RecipeError(f"unknown tensor type {name!r}; known types: {nearest}") from None


def _nearest_first(name: str, known: dict[str, Preset] | dict[str, Type]) -> str:
    nearest = get_close_matches(name, known, n=3, cutoff=0.5)
    return ", ".join([*nearest, *(other for other in known if other not in nearest)])
