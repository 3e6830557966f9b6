"""The ModelConfig that describes one model: what config.json says, checked."""

from __future__ import annotations

from dataclasses import dataclass

from .families.family import Family

ROPE_SCALINGS = ("linear", "yarn", "llama3")


@dataclass(frozen=True)
class RopeScaling:
    """Scaling of the rotary frequencies (config.json's `rope_scaling` or `rope_parameters`)."""

    kind: str
    """One of ROPE_SCALINGS."""
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
    """The hyperparameters of a model, dense or mixture-of-experts."""

    family: Family
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
    experts: int = 0
    """0 for a dense model."""
    experts_used: int = 0
    expert_feed_forward: int = 0
    """The width of an expert."""
    shared_feed_forward: int = 0
    """The width of the shared expert; 0 for none."""
    shared_experts: int = 0
    """How many experts the shared one is as wide as, in families that count them."""
    leading_dense: int = 0
    """The number of first layers without experts."""
    scores: bool = False
    """Whether config.json has a scoring_func (softmax); the GGUF then has it, too."""
    normalizes: bool | None = None
    """config.json's norm_topk_prob; None where it is missing."""
