"""DeepSeek-MoE, the first version: Llama's attention, experts, shared experts without a gate."""

from __future__ import annotations

from .family import Experts, Family, MergeOutput, SharedExpert

_CODE = "deepseek-ai/deepseek-moe-16b-base"
"""The repository of its Python code: transformers has no class of its own."""

DEEPSEEK = Family(
    class_name="DeepseekForCausalLM",
    model_type="deepseek",
    architecture="deepseek",
    context_length=2048,
    rope_theta=10_000.0,
    rms_norm_eps=1e-6,
    kv_heads=None,
    rotary_pairs=True,
    rope_scalings=(),
    keys=(
        "rope.dimension_count",
        "rope.scaling.type",
        "leading_dense_block_count",
        "vocab_size",
        "expert_feed_forward_length",
        "expert_weights_scale",
        "expert_shared_count",
    ),
    only={"moe_layer_freq": 1, "scoring_func": "softmax"},
    experts=Experts(
        count=("n_routed_experts",),
        used=2,
        shared=SharedExpert("shared_experts", count="n_shared_experts"),
        leading_dense="first_k_dense_replace",
        normalized=False,
        can_be_fused=False,
    ),
    merge=MergeOutput(
        name="DeepSeek MoE",
        bases=("llama", "mistral"),
        shared_experts=(1, 1),
        config={
            "auto_map": {
                "AutoConfig": f"{_CODE}--configuration_deepseek.DeepseekConfig",
                "AutoModel": f"{_CODE}--modeling_deepseek.DeepseekModel",
                "AutoModelForCausalLM": f"{_CODE}--modeling_deepseek.DeepseekForCausalLM",
            },
            "first_k_dense_replace": 0,
            "moe_layer_freq": 1,
            "norm_topk_prob": True,
            "scoring_func": "softmax",
        },
    ),
)
