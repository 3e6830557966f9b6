"""Mixtral: experts of Mistral's shape, of llama.cpp's architecture `llama`, too."""

from __future__ import annotations

from dataclasses import replace

from .family import Experts, MergeOutput
from .llama import MISTRAL

MIXTRAL = replace(
    MISTRAL,
    class_name="MixtralForCausalLM",
    model_type="mixtral",
    rope_theta=1_000_000.0,
    rms_norm_eps=1e-5,
    writes_head_dim=False,
    experts=Experts(
        count=("num_local_experts",),
        used=2,
        width="intermediate_size",
        block="block_sparse_moe",
        gate="w1",
        up="w3",
        down="w2",
    ),
    merge=MergeOutput(
        name="Mixtral",
        bases=("llama", "mistral"),
        shared_experts=(0, 0),
        config={
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
            "sliding_window": None,
        },
    ),
)
