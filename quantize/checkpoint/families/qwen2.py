"""Qwen2 and Qwen2.5: dense, with biases on Q, K and V."""

from __future__ import annotations

from .family import Family

QWEN2 = Family(
    class_name="Qwen2ForCausalLM",
    model_type="qwen2",
    architecture="qwen2",
    context_length=32_768,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    kv_heads=32,
)
