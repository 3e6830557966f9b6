"""What differs between model families, as data: config.json in, one ModelConfig out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RopeScaling:
    """How the rotary frequencies are stretched (config.json `rope_scaling` / `rope_parameters`)."""

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
    vocab_size: int
    tied: bool
    """True when the checkpoint has no lm_head.weight and the embeddings serve as output."""
    experts: int
    """0 for a dense model."""
    experts_used: int
