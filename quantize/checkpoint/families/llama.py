"""Llama and Mistral: dense models of llama.cpp's architecture `llama`."""

from __future__ import annotations

from dataclasses import replace

from .family import ALL_BIASES, Family

LLAMA = Family(
    class_name="LlamaForCausalLM",
    model_type="llama",
    architecture="llama",
    context_length=2048,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    kv_heads=None,
    writes_head_dim=True,
    rotary_pairs=True,
    square_attention=False,
    rope_scalings=("linear", "yarn", "llama3"),
    biases=ALL_BIASES,
    keys=("vocab_size", "rope.dimension_count"),
)

OLD_LLAMA = replace(LLAMA, class_name="LLaMAForCausalLM")

MISTRAL = replace(
    LLAMA,
    class_name="MistralForCausalLM",
    model_type="mistral",
    context_length=131_072,
    kv_heads=8,
)
