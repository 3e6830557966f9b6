"""Sampling settings with llama.cpp's names and defaults, validated. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.values import Metadata

RANDOM_SEED = 0xFFFFFFFF  # llama.cpp's LLAMA_DEFAULT_SEED: a new one each time
SAMPLERS = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)
"""The names allowed in `Sampling.samplers`, in llama.cpp's default order."""
_ALIASES = {"temp": "temperature", "typ": "typ_p", "typical_p": "typ_p", "nucleus": "top_p"}
_MAX_GRAMMAR = 1 << 16
_MAX_BREAKERS, _MAX_BREAKER = 64, 40  # llama.cpp cuts a breaker at 40 characters
_MAX_BIASES = 1 << 10


class SamplingError(FrankenError):
    """A sampling setting is invalid."""


@dataclass(frozen=True)
class Sampling:
    """The settings of one answer. The defaults are llama.cpp's (common_params_sampling)."""

    temperature: float = 0.8
    """0 always takes the likeliest token."""
    dynatemp_range: float = 0.0
    """The temperature varies by this much in both directions, with the entropy; 0 is off."""
    dynatemp_exponent: float = 1.0
    top_k: int = 40
    """Keep only the k likeliest tokens; 0 keeps all."""
    top_p: float = 0.95
    """Keep only the likeliest tokens that together have this probability; 1 keeps all."""
    min_p: float = 0.05
    """Minimum probability relative to the likeliest token's; 0 keeps all."""
    typical_p: float = 1.0
    """Keep the tokens nearest to the expected surprise, of this total probability; 1 keeps all."""
    top_n_sigma: float = -1.0
    """Keep only logits within this many standard deviations of the highest; -1 is off."""
    xtc_probability: float = 0.0
    """How often all tokens above `xtc_threshold` except the least likely of them are removed."""
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    """DRY subtracts multiplier * base^(n - allowed length) if a token repeats n; 0 is off."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    """Last tokens that DRY looks at, the prompt included; -1 means all of the context."""
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    """Texts at which DRY stops matching a repetition."""
    repeat_penalty: float = 1.0
    """Divides the logits of recent tokens; 1 is off."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it occurs among recent tokens."""
    presence_penalty: float = 0.0
    """Subtracted once if a token occurs among recent tokens."""
    repeat_last_n: int = 64
    """Recent tokens for these three penalties, the prompt included; -1 means the whole context."""
    mirostat: int = 0
    """Version of Mirostat, 1 or 2; it replaces all but penalties, temperature and grammar."""
    mirostat_tau: float = 5.0
    """Mirostat's target surprise."""
    mirostat_eta: float = 0.1
    """Mirostat's learning rate."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Pairs of a token id and what is added to its logit."""
    grammar: str = ""
    """GBNF; the answer must match its rule `root`."""
    samplers: tuple[str, ...] = SAMPLERS
    """Samplers in the order to apply; others are not used."""
    seed: int = RANDOM_SEED

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            # Written so that NaN fails.
            if not low <= value <= high:
                raise SamplingError(f"{name} is {value}; it must be from {low:g} to {high:g}")
        if unknown := [name for name in self.samplers if name not in SAMPLERS]:
            raise SamplingError(
                f"there is no sampler {unknown[0]!r}; there are {';'.join(SAMPLERS)}"
            )
        if len(set(self.samplers)) < len(self.samplers):
            raise SamplingError("samplers contain one twice; name each once")
        if len(self.grammar) > _MAX_GRAMMAR or "\0" in self.grammar:
            raise SamplingError(
                f"the grammar is too long or contains a null character; the limit is "
                f"{_MAX_GRAMMAR} characters"
            )
        breakers = self.dry_sequence_breakers
        if len(breakers) > _MAX_BREAKERS or not all(
            0 < len(text) <= _MAX_BREAKER and "\0" not in text for text in breakers
        ):
            raise SamplingError(
                f"dry_sequence_breakers must be at most {_MAX_BREAKERS} texts of 1 to "
                f"{_MAX_BREAKER} characters"
            )
        if len(self.logit_bias) > _MAX_BIASES or any(
            math.isnan(bias) for _, bias in self.logit_bias
        ):
            raise SamplingError(f"logit_bias must be at most {_MAX_BIASES} pairs of id and number")

    def in_context(self, n_ctx: int) -> Sampling:
        """The same with `n_ctx` for -1, which llama.cpp's DRY sampler would treat as 0."""
        if self.dry_penalty_last_n >= 0 and self.repeat_last_n >= 0:
            return self
        return replace(
            self,
            dry_penalty_last_n=n_ctx if self.dry_penalty_last_n < 0 else self.dry_penalty_last_n,
            repeat_last_n=n_ctx if self.repeat_last_n < 0 else self.repeat_last_n,
        )

    def reach(self) -> int:
        """The number of prompt tokens that the penalties look at."""
        penalties = self.repeat_penalty != 1 or self.frequency_penalty or self.presence_penalty
        return max(
            self.repeat_last_n if penalties else 0,
            self.dry_penalty_last_n if self.dry_multiplier else 0,
        )


# repeat_penalty: llama.cpp divides by it, so neither it nor its inverse may leave float32.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 1e6),
    "dynatemp_range": (0.0, 1e6),
    "dynatemp_exponent": (0.0, 1e3),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (-1.0, 1e6),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "dry_multiplier": (0.0, 1e6),
    "dry_base": (1.0, 1e3),
    "dry_allowed_length": (0, 2**20),
    "dry_penalty_last_n": (-1, 2**20),
    "repeat_penalty": (1e-6, 1e6),
    "frequency_penalty": (-1e6, 1e6),
    "presence_penalty": (-1e6, 1e6),
    "repeat_last_n": (-1, 2**20),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, 1e3),
    "mirostat_eta": (0.0, 1.0),
    "seed": (0, RANDOM_SEED),
}
"""The least and the greatest value of each number."""

FILE_KEYS = {
    name: f"general.sampling.{key}"
    for name, key in (
        ("temperature", "temp"),
        ("top_k", "top_k"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("xtc_probability", "xtc_probability"),
        ("xtc_threshold", "xtc_threshold"),
        ("repeat_penalty", "penalty_repeat"),
        ("repeat_last_n", "penalty_last_n"),
        ("mirostat", "mirostat"),
        ("mirostat_tau", "mirostat_tau"),
        ("mirostat_eta", "mirostat_eta"),
    )
}
"""Setting to its GGUF metadata key, for those that a file can hold (llama.cpp's llama-arch.cpp)."""


def sampling_for(metadata: Metadata, *wanted: Mapping[str, Any]) -> Sampling:
    """Each setting from the first of `wanted` that has it (None: not set), the file, the default.

    An invalid setting in the file is ignored: the user did not choose it. An invalid one in
    `wanted` raises SamplingError.
    """
    settings: dict[str, Any] = {}
    for field in fields(Sampling):
        given = [source[field.name] for source in wanted if source.get(field.name) is not None]
        stored = (
            metadata[FILE_KEYS[field.name]].data if FILE_KEYS.get(field.name) in metadata else None
        )
        if given:
            settings[field.name] = given[0]
        elif isinstance(stored, int | float) and _fits(field.name, stored):
            settings[field.name] = type(getattr(Sampling, field.name))(stored)
    return Sampling(**settings)


def with_setting(sampling: Sampling, name: str, text: str) -> Sampling:
    """`sampling` with one setting changed, given as a user types it: ("temp", "0.7").

    Raises SamplingError.
    """
    key = name.replace("-", "_")
    key = _SHORT.get(key, key)
    names = [field.name for field in fields(Sampling)]
    if key not in names:
        raise SamplingError(f"there is no setting {name!r}; there are {', '.join(names)}")
    return replace(sampling, **{key: _parsed(key, text)})


_SHORT = {
    "temp": "temperature",
    "typical": "typical_p",
    "top_nsigma": "top_n_sigma",
    "dynatemp_exp": "dynatemp_exponent",
    "mirostat_ent": "mirostat_tau",
    "mirostat_lr": "mirostat_eta",
    "dry_sequence_breaker": "dry_sequence_breakers",
}


def _parsed(key: str, text: str) -> Any:
    if key == "grammar":
        return text
    if key == "samplers":
        return sampler_names(text)
    if key == "logit_bias":
        return tuple(token_bias(part) for part in text.split(",") if part.strip())
    if key == "dry_sequence_breakers":
        return breakers(text.split(","))
    kind = type(getattr(Sampling, key))
    try:
        value = kind(text)
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise SamplingError(f"{key} must be a {what}, not {text!r}") from None
    return RANDOM_SEED if key == "seed" and value == -1 else value


def sampler_names(text: str) -> tuple[str, ...]:
    """Names separated by ;, as for llama.cpp's --samplers. Unknown names are kept."""
    names = [name.strip().lower().replace("-", "_") for name in text.split(";") if name.strip()]
    plain = {name.replace("_", ""): name for name in SAMPLERS}
    return tuple(_ALIASES.get(name, plain.get(name.replace("_", ""), name)) for name in names)


def token_bias(text: str) -> tuple[int, float]:
    """ID+BIAS or ID-BIAS, as for llama.cpp's --logit-bias. Raises SamplingError."""
    match = re.fullmatch(r"\s*(\d{1,9})([+-])(\d+(?:\.\d*)?(?:e[+-]?\d{1,3})?|inf)\s*", text)
    if not match:
        raise SamplingError(f"{text!r}: write a bias as TOKEN_ID+BIAS or TOKEN_ID-BIAS")
    return int(match[1]), float(match[2] + match[3])


def breakers(texts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    r"""DRY's sequence breakers as for llama.cpp: \n is a newline, "none" alone disables them."""
    if list(texts) == ["none"]:
        return ()
    return tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in texts)


def _fits(name: str, value: float) -> bool:
    low, high = RANGES[name]
    return math.isfinite(value) and low <= value <= high
