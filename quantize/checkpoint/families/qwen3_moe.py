"""Qwen3-MoE: Qwen3's attention and experts, without a shared one."""

from __future__ import annotations

from dataclasses import replace

from .family import Experts, MergeOutput
from .qwen3 import QWEN3

QWEN3_MOE = replace(
    QWEN3,
    class_name="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    architecture="qwen3moe",
    kv_heads=4,
    head_dim=None,
    writes_head_dim=False,
    keys=("expert_feed_forward_length",),
    only={"decoder_sparse_step": 1, "mlp_only_layers": []},
    experts=Experts(count=("num_experts", "num_local_experts"), used=8),
    merge=MergeOutput(
        name="Qwen3 MoE",
        bases=("qwen3",),
        shared_experts=(0, 0),
        biases=True,
        config={
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.001,
        },
    ),
)
