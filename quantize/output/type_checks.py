"""Refuses types that are not supported, do not fit a tensor, or need importances it lacks. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.tensor_types.type_choice import Choice
from franken_gguf.quantize.tensor_types.type_presets import Preset


def check_supported(
    tensors: Sequence[SourceTensor], choices: Sequence[Choice], *, allow_requantize: bool
) -> None:
    """Raise RecipeError for a type that is unknown here, or a tensor that is quantized already."""
    for tensor, choice in zip(tensors, choices, strict=True):
        if choice.type is tensor.stored:
            continue
        for kind in (tensor.stored, choice.type):
            if kind.name not in FORMATS:
                raise RecipeError(
                    f"tensor {tensor.name!r}: {kind.name} is not supported; supported are "
                    f"{', '.join(FORMATS)}"
                )
        quantized = GGML_QUANT_SIZES[tensor.stored][0] > 1
        if quantized and not allow_requantize:
            raise RecipeError(
                f"tensor {tensor.name!r} is quantized already ({tensor.stored.name}); quantize "
                "from F16, BF16 or F32, or accept the loss with --allow-requantize"
            )


def check_fits(tensors: Sequence[SourceTensor], choices: Sequence[Choice], preset: Preset) -> None:
    """Raise RecipeError if a tensor has fallen back to another type than the preset wants."""
    fallbacks = [(t, c) for t, c in zip(tensors, choices, strict=True) if c.fell_back]
    if fallbacks:
        tensor, choice = fallbacks[0]
        more = f" (and {len(fallbacks) - 1} more)" if len(fallbacks) > 1 else ""
        raise RecipeError(
            f"{preset.name} does not fit tensor {tensor.name!r}{more}: its row length "
            f"{tensor.cols} is not a multiple of {choice.wanted.name}'s block size; use "
            "another type, or drop --strict-types to store such tensors in other types"
        )


def check_importances(
    needing: Sequence[tuple[str, GGMLQuantizationType]], known: Container[str], imatrix: Path
) -> None:
    """Raise RecipeError for a tensor that needs importances and has none."""
    for name, kind in needing:
        if name not in known:
            raise RecipeError(
                f"{imatrix} lacks the importances of {name!r}, which {kind.name} needs; calibrate "
                "longer, or choose another type"
            )
