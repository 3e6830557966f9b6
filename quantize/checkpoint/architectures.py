"""The supported model families as data, and the ModelConfig that describes one model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A Hugging Face model class and its defaults for fields that config.json leaves out.

    The defaults are those of the configuration classes in transformers 5, through which llama.cpp's
    converter reads every config.json.
    """

    moe: bool
    context_length: int
    rope_theta: float
    rms_norm_eps: float
    kv_heads: int | None
    """None for as many as there are query heads."""
    writes_head_dim: bool
    """True when the class always has a head_dim, so the GGUF has key_length and value_length."""


_LLAMA = Family(
    moe=False,
    context_length=2048,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    kv_heads=None,
    writes_head_dim=True,
)

FAMILIES = {
    "LlamaForCausalLM": _LLAMA,
    "LLaMAForCausalLM": _LLAMA,
    "MistralForCausalLM": Family(
        moe=False,
        context_length=131_072,
        rope_theta=10_000.0,
        rms_norm_eps=1e-6,
        kv_heads=8,
        writes_head_dim=True,
    ),
    "MixtralForCausalLM": Family(
        moe=True,
        context_length=131_072,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-5,
        kv_heads=8,
        writes_head_dim=False,
    ),
}


@dataclass(frozen=True)
class RopeScaling:
    """Scaling of the rotary frequencies (config.json's `rope_scaling` or `rope_parameters`)."""

    kind: str
    """"linear", "yarn" or "llama3"."""
    factor: float
    original_context_length: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    extrapolation_factor: float | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The hyperparameters of a Llama-shaped model, dense or mixture-of-experts."""

    architecture: str
    """The Hugging Face class name, e.g. "MixtralForCausalLM"."""
    layers: int
    hidden_size: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    states_head_dim: bool
    """True if the GGUF has key_length and value_length, False if they are hidden_size / heads."""
    vocab_size: int
    context_length: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool
    """True when the checkpoint has no lm_head.weight and uses the embeddings as output matrix."""
    experts: int
    """0 for a dense model."""
    experts_used: int
