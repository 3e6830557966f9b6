"""What each type of each tensor takes and costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU
from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.checkpoint.name_mapping import MappedTensor, SourceTensor
from franken_gguf.quantize.gguf_file.encode import padded
from franken_gguf.quantize.tensor_types.type_allocation import Option
from franken_gguf.quantize.tensor_types.type_choice import is_quantizable, layer_of
from franken_gguf.quantize.tensor_types.type_presets import Type

from .measurements import Measurements
from .type_errors import SLOW

_FLOATS = ("F32", "F16", "BF16")
_TRAINED_FOR = ("Q1_0", "TQ1_0", "TQ2_0", "MXFP4")
"""Types for models that were trained in them."""
_NEED_IMPORTANCE = ("IQ1_", "IQ2_", "IQ3_XXS")
"""Types that are far off without an importance matrix."""
_PROBES = (Type.Q3_K, Type.Q4_0, Type.F16)
"""The type in which the running model is tested: coarse enough to show; the first that fits."""
_TOO_FAR_OFF = 0.05
"""A relative error from which KL divergence hardly grows, where few weights make most of it."""


def can_choose(tensor: SourceTensor) -> bool:
    """Whether the tensor's type is ours to choose: llama-quantize would quantize it."""
    return is_quantizable(tensor.name, tensor.shape)


def possible_types(tensor: SourceTensor, weighted: bool) -> tuple[Type, ...]:
    """The types that the tensor can get: those whose blocks divide its rows.

    Of the unquantized ones that of the source, or F16 for F32. `weighted`: the importance matrix
    has an entry for the tensor.
    """
    unquantized = Type.BF16 if tensor.stored is Type.BF16 else Type.F16
    chosen = [name for name in FORMATS if name not in (*_FLOATS, *_TRAINED_FOR)]
    kinds = (
        GGMLQuantizationType[name]
        for name in chosen
        if weighted or not name.startswith(_NEED_IMPORTANCE)
    )
    fitting = tuple(kind for kind in kinds if tensor.cols % GGML_QUANT_SIZES[kind][0] == 0)
    return (*fitting, unquantized)


def probe_type(tensor: SourceTensor, errors: Mapping[str, float]) -> Type:
    """The type that the tensor is tested in; `errors` are its types' errors.

    One that is far off, as Q3_K is for a few large weights of great importance, would tell little
    of small errors: then the type with the largest error that is not.
    """
    usual = _usual_probe(tensor)
    if errors.get(usual.name, 0.0) <= _TOO_FAR_OFF:
        return usual
    near = {
        name: error
        for name, error in errors.items()
        if 0 < error <= _TOO_FAR_OFF and not name.startswith(SLOW)
    }
    return GGMLQuantizationType[max(near, key=near.__getitem__)] if near else usual


def _usual_probe(tensor: SourceTensor) -> Type:
    return next(kind for kind in _PROBES if tensor.cols % GGML_QUANT_SIZES[kind][0] == 0)


def tensor_bytes(tensor: MappedTensor, kind: Type) -> int:
    """Bytes of the tensor in a file, its padding included."""
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    return padded(tensor.rows * (tensor.cols // block_len * block_bytes))


def menus(
    tensors: Sequence[SourceTensor], measured: Measurements, *, n_cpu_moe: int = 0
) -> list[list[Option]]:
    """The options of each tensor: the types whose errors were measured.

    KL divergence grows with the square of a small error, so what was measured at one type is
    scaled by the errors of the others; where codes are chosen, by what that leaves of them. The
    experts of the first `n_cpu_moe` layers get no type that is slow on CPUs.
    """
    found = [_menu(tensor, measured) for tensor in tensors]
    return [
        _fast_on_cpu(menu) if is_expert(tensor) and layer_of(tensor.name) < n_cpu_moe else menu
        for tensor, menu in zip(tensors, found, strict=True)
    ]


def _fast_on_cpu(menu: list[Option]) -> list[Option]:
    """Without slow types, if there are K-quants, which these are slow beside."""
    if not any(option.type.name.endswith("_K") for option in menu):
        return menu
    return [option for option in menu if option.type.name not in SLOW_ON_CPU]


def is_expert(tensor: SourceTensor) -> bool:
    """Whether the tensor has the experts of a layer, which --n-cpu-moe keeps in RAM."""
    return "_exps." in tensor.name


def _menu(tensor: SourceTensor, measured: Measurements) -> list[Option]:
    errors = measured.errors[tensor.name]
    # Rows that fit no block stay as they are, and only that was measured.
    probe = probe_type(tensor, errors)
    tested = errors.get(probe.name, 0.0)
    scale = measured.divergences[tensor.name] / tested if tested else 0.0
    most = inf if probe is _usual_probe(tensor) else _TOO_FAR_OFF
    gains = measured.gains.get(tensor.name, {})
    return [
        Option(
            kind,
            tensor_bytes(tensor, kind),
            scale * min(error, most) * gains.get(kind.name, 1.0),
        )
        for kind, error in ((GGMLQuantizationType[name], error) for name, error in errors.items())
    ]
