"""How the next token is drawn: llama.cpp's usual settings, checked; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_types import Metadata

RANDOM_SEED = 0xFFFFFFFF  # llama.cpp's LLAMA_DEFAULT_SEED: another one every time


class SamplingError(FrankenError):
    """A setting is outside what it can be."""


@dataclass(frozen=True)
class Sampling:
    """The settings of one answer. The defaults are llama.cpp's (common_params_sampling)."""

    temperature: float = 0.8
    """0 takes the likeliest token always."""
    top_k: int = 40
    """Only the k likeliest tokens; 0 is all."""
    top_p: float = 0.95
    """Only the likeliest tokens that together have this probability; 1 is all."""
    min_p: float = 0.05
    """Only tokens with at least this part of the likeliest one's probability; 0 is all."""
    repeat_penalty: float = 1.0
    """Divides the logits of tokens among the last ones; 1 changes nothing."""
    repeat_last_n: int = 64
    """How many last tokens `repeat_penalty` looks at, the prompt's included."""
    seed: int = RANDOM_SEED

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            # Written so that NaN fails.
            if not low <= value <= high:
                raise SamplingError(f"{name} is {value}; it must be from {low:g} to {high:g}")


# repeat_penalty: llama.cpp divides by it, so neither it nor its inverse may leave float32.
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 1e6),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (1e-6, 1e6),
    "repeat_last_n": (0, 2**20),
    "seed": (0, RANDOM_SEED),
}

# The key of a setting in a GGUF's metadata (llama.cpp's llama-arch.cpp).
_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repeat_penalty": "general.sampling.penalty_repeat",
    "repeat_last_n": "general.sampling.penalty_last_n",
}


def sampling_for(metadata: Metadata, wanted: Mapping[str, float | None]) -> Sampling:
    """What the user `wanted` (None: no wish), else what the model's file says, else the default.

    A setting of the file that cannot be is passed over: the user did not make it. One that the
    user wants raises SamplingError.
    """
    settings: dict[str, Any] = {}
    for field in fields(Sampling):
        wish = wanted.get(field.name)
        stored = metadata[_KEYS[field.name]].data if _KEYS.get(field.name) in metadata else None
        if wish is not None:
            settings[field.name] = wish
        elif isinstance(stored, int | float) and _fits(field.name, stored):
            settings[field.name] = type(getattr(Sampling, field.name))(stored)
    return Sampling(**settings)


def with_setting(sampling: Sampling, name: str, text: str) -> Sampling:
    """`sampling` with one setting changed, as a user writes it: ("temp", "0.7").

    Raises SamplingError.
    """
    key = _SHORT.get(name, name.replace("-", "_"))
    kinds = {field.name: type(getattr(Sampling, field.name)) for field in fields(Sampling)}
    if key not in kinds:
        raise SamplingError(f"there is no setting {name!r}; there are {', '.join(kinds)}")
    try:
        value = kinds[key](text)
    except ValueError:
        what = "whole number" if kinds[key] is int else "number"
        raise SamplingError(f"{key} is a {what}, not {text!r}") from None
    return replace(sampling, **{key: RANDOM_SEED if key == "seed" and value == -1 else value})


_SHORT = {"temp": "temperature"}


def _fits(name: str, value: float) -> bool:
    low, high = _RANGES[name]
    return math.isfinite(value) and low <= value <= high
