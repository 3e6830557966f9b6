"""Qwen3: dense, with normalized heads of Q and K instead of biases."""

from __future__ import annotations

from .family import Family

QWEN3 = Family(
    class_name="Qwen3ForCausalLM",
    model_type="qwen3",
    architecture="qwen3",
    context_length=32_768,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    kv_heads=32,
    head_dim=128,
    writes_head_dim=True,
    square_attention=False,
    qk_norm=True,
)
