"""Types by tensor as the fewest --tensor-type patterns. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from franken_gguf.quantize.tensor_types.type_choice import layer_of
from franken_gguf.quantize.tensor_types.type_presets import Type

_LAYER = re.compile(r"^blk\.\d+\.")


def type_lines(types: Mapping[str, Type]) -> tuple[tuple[str, Type], ...]:
    """(pattern, type) for --tensor-type, of llama-quantize too: one for each part and type.

    As in (r"^blk\\.(0|1|12)\\.attn_v\\.weight$", Q8_0).
    """
    layers: dict[tuple[str, Type], list[int]] = {}
    for name, kind in types.items():
        layers.setdefault((_LAYER.sub("", name), kind), []).append(layer_of(name))
    return tuple((_pattern(part, some), kind) for (part, kind), some in layers.items())


def _pattern(part: str, layers: list[int]) -> str:
    name = re.escape(part)
    if layers == [-1]:
        return f"^{name}$"
    numbers = "|".join(map(str, sorted(layers)))
    return rf"^blk\.{numbers if len(layers) == 1 else f'({numbers})'}\.{name}$"
