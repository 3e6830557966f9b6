"""RoPE scaling for contexts beyond training: llama.cpp's options, and a choice where none is given.

Positions beyond those of the training are angles that the model has never seen. YaRN keeps the
angles between neighbours as they were and squeezes those of distant tokens into the known range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from math import isfinite

from .model_shape import ModelShape

ROPE_SCALINGS = ("none", "linear", "yarn")
"""llama.cpp's names for --rope-scaling."""
_AMOUNTS = ("rope_scale", "rope_freq_base", "rope_freq_scale")


@dataclass(frozen=True, kw_only=True)
class Rope:
    """RoPE settings, named like llama.cpp's options; None is what the model file says."""

    rope_scaling: str | None = None
    """One of ROPE_SCALINGS."""
    rope_scale: float | None = None
    """How many times as long a context becomes; 1 / `rope_freq_scale`."""
    rope_freq_base: float | None = None
    rope_freq_scale: float | None = None
    yarn_orig_ctx: int | None = None
    """Tokens of context that the model was trained with."""
    yarn_ext_factor: float | None = None
    yarn_attn_factor: float | None = None
    yarn_beta_slow: float | None = None
    yarn_beta_fast: float | None = None

    @property
    def rope(self) -> Rope:
        """These settings alone, without those of a subclass."""
        return Rope(**{field.name: getattr(self, field.name) for field in fields(Rope)})

    @property
    def is_decided(self) -> bool:
        """Whether it says how much to scale, or not to scale."""
        amounts = (getattr(self, name) for name in _AMOUNTS)
        return self.rope_scaling == "none" or any(amount is not None for amount in amounts)

    def flags(self) -> Iterator[str]:
        """The settings as options of llama.cpp."""
        for name, value in self._given():
            yield _option(name)
            yield value if isinstance(value, str) else f"{value:.9g}"

    def problem(self) -> str | None:
        """What is wrong with the settings, in one line; None if nothing is."""
        if self.rope_scaling not in (None, *ROPE_SCALINGS):
            choices = ", ".join(ROPE_SCALINGS)
            return f"--rope-scaling {self.rope_scaling}: give one of {choices}"
        if self.rope_scale is not None and self.rope_freq_scale is not None:
            return "--rope-scale N is --rope-freq-scale 1/N; give one of them"
        for name, value in self._given():
            if isinstance(value, str):
                continue
            if not isfinite(value) or value < 0 or (value == 0 and name != "yarn_ext_factor"):
                return f"{_option(name)} {value:g}: give a number above 0"
        return None

    def _given(self) -> Iterator[tuple[str, str | float]]:
        for field in fields(Rope):
            value = getattr(self, field.name)
            if value is not None:
                yield field.name, value


STORED_ROPE = Rope()
"""All as the model file says."""


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def rope_for(shape: ModelShape, options: Rope, n_ctx: int) -> Rope:
    """The settings for a context of `n_ctx` tokens.

    They are those of `options`. If these leave open how much to scale and the context is beyond
    training, it is the ratio of the two, by YaRN unless they have another method, except for a
    model file with a scaling of its own.
    """
    own = options.rope
    if n_ctx <= shape.n_ctx_train or own.is_decided or shape.rope_scaling not in ("", "none"):
        return own
    method = own.rope_scaling or "yarn"
    return replace(own, rope_scaling=method, rope_scale=n_ctx / shape.n_ctx_train)


def beyond_training(shape: ModelShape, options: Rope, n_ctx: int) -> str:
    """A line for a user whose context of `n_ctx` tokens is longer than that of the training."""
    fact = f"the model was trained for {shape.n_ctx_train} tokens, not for a context of {n_ctx}"
    rope = rope_for(shape, options, n_ctx)
    if rope.rope_scaling == "none":
        return f"{fact}, and RoPE is not scaled: text beyond them may make no sense"
    if options.is_decided:
        return f"{fact}: RoPE is scaled by your options"
    if not rope.is_decided:
        return f"{fact}: the file's own RoPE scaling ({shape.rope_scaling}) is used"
    return f"{fact}: RoPE is scaled with {' '.join(rope.flags())}; --rope-scaling none turns it off"
