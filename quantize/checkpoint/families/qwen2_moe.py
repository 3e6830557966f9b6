"""Qwen2-MoE: Qwen2's attention, experts, and a shared expert with a gate of its own."""

from __future__ import annotations

from dataclasses import replace

from .family import Experts, MergeOutput, SharedExpert
from .qwen2 import QWEN2

QWEN2_MOE = replace(
    QWEN2,
    class_name="Qwen2MoeForCausalLM",
    model_type="qwen2_moe",
    architecture="qwen2moe",
    kv_heads=16,
    ties_output=False,
    keys=("expert_feed_forward_length", "expert_shared_feed_forward_length"),
    only={"decoder_sparse_step": 1, "mlp_only_layers": []},
    experts=Experts(
        count=("num_experts",),
        used=4,
        shared=SharedExpert(
            "shared_expert", width="shared_expert_intermediate_size", gate="shared_expert_gate"
        ),
        normalized=False,
    ),
    merge=MergeOutput(
        name="Qwen MoE",
        bases=("llama", "mistral", "qwen2"),
        shared_experts=(1, 1),
        biases=True,
        zero_biases=True,
        config={
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
            "output_router_logits": False,
            "qkv_bias": True,
            "router_aux_loss_coef": 0.001,
            "sliding_window": None,
            "use_sliding_window": False,
        },
    ),
)
