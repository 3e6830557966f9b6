"""Small checkpoints of the families beside Llama and Mixtral, as their makers lay them out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from support.bpe_tokenizers import write_json, write_qwen_tokenizer
from support.checkpoints import DEFAULT_VOCAB, Dtype, weights, write_safetensors

FamilyName = Literal["qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "deepseek"]
CLASSES: dict[FamilyName, str] = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "deepseek": "DeepseekForCausalLM",
}
LOGIT_TOKENS = [17, 400, 81, 902, 333, 64, 256, 999, 512, 3]
"""The text on which transformers' logits were recorded, see tools/make_logits.py."""

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "vocab_size": DEFAULT_VOCAB,
}
_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
_MIXTURES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
        "norm_topk_prob": False,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "shared_expert_intermediate_size": 80,
    },
    "qwen3_moe": {
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "num_experts": 4,
        "num_experts_per_tok": 2,
    },
    "deepseek": {
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 32,
        "moe_layer_freq": 1,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "norm_topk_prob": False,
        "num_experts_per_tok": 2,
        "scoring_func": "softmax",
    },
}


def family_config(family: FamilyName, **changes: Any) -> dict[str, Any]:
    """config.json as transformers 4 writes it; None in `changes` removes a field."""
    config = {
        "architectures": [CLASSES[family]],
        "model_type": family,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **SIZES,
        **_MIXTURES.get(family, {}),
    }
    if family.startswith("qwen3"):
        config |= {"head_dim": 32, "attention_bias": False}
    config |= changes
    return {key: value for key, value in config.items() if value is not None}


def family_tensors(
    family: FamilyName, config: dict[str, Any], *, fused: bool = False, seed: int = 0
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and float32 values in model order; both layouts of the experts hold the same."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]

    def linear(name: str, *shape: int) -> tuple[str, NDArray[np.float32]]:
        return name, weights(name, shape, seed, 0.05)

    def norm(name: str, size: int = hidden) -> tuple[str, NDArray[np.float32]]:
        return name, 1 + weights(name, (size,), seed, 0.1)

    yield linear("model.embed_tokens.weight", vocab, hidden)
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        yield norm(f"{layer}.input_layernorm.weight")
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim", hidden // heads)
        kv = config["num_key_value_heads"] * head_dim
        for matrix, rows in (("q", heads * head_dim), ("k", kv), ("v", kv)):
            yield linear(f"{layer}.self_attn.{matrix}_proj.weight", rows, hidden)
            if family.startswith("qwen2"):
                yield linear(f"{layer}.self_attn.{matrix}_proj.bias", rows)
        yield linear(f"{layer}.self_attn.o_proj.weight", hidden, heads * head_dim)
        if family.startswith("qwen3"):
            yield norm(f"{layer}.self_attn.q_norm.weight", head_dim)
            yield norm(f"{layer}.self_attn.k_norm.weight", head_dim)
        yield norm(f"{layer}.post_attention_layernorm.weight")
        if family not in _MIXTURES or number < config.get("first_k_dense_replace", 0):
            yield from _network(f"{layer}.mlp", config["intermediate_size"], hidden, seed)
            continue
        count = next(config[key] for key in _COUNTS if key in config)
        yield linear(f"{layer}.mlp.gate.weight", count, hidden)
        yield from _experts(layer, count, config["moe_intermediate_size"], hidden, fused, seed)
        if family == "qwen2_moe":
            width = config["shared_expert_intermediate_size"]
            yield from _network(f"{layer}.mlp.shared_expert", width, hidden, seed)
            yield linear(f"{layer}.mlp.shared_expert_gate.weight", 1, hidden)
        if family == "deepseek":
            width = config["n_shared_experts"] * config["moe_intermediate_size"]
            yield from _network(f"{layer}.mlp.shared_experts", width, hidden, seed)
    yield norm("model.norm.weight")
    if not config["tie_word_embeddings"]:
        yield linear("lm_head.weight", vocab, hidden)


def _network(
    module: str, width: int, hidden: int, seed: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for matrix, shape in (
        ("gate_proj", (width, hidden)),
        ("up_proj", (width, hidden)),
        ("down_proj", (hidden, width)),
    ):
        name = f"{module}.{matrix}.weight"
        yield name, weights(name, shape, seed, 0.05)


def _experts(
    layer: str, count: int, width: int, hidden: int, fused: bool, seed: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    module = f"{layer}.mlp.experts"
    parts = [dict(_network(f"{module}.{e}", width, hidden, seed)) for e in range(count)]
    if not fused:
        for part in parts:
            yield from part.items()
        return
    matrices = [list(part.values()) for part in parts]
    yield f"{module}.gate_up_proj", np.stack([np.concatenate([g, u]) for g, u, _ in matrices])
    yield f"{module}.down_proj", np.stack([down for _, _, down in matrices])


def make_family_checkpoint(
    folder: Path,
    family: FamilyName,
    *,
    fused: bool = False,
    dtype: Dtype = "BF16",
    seed: int = 0,
    **changes: object,
) -> Path:
    """Write weights, config.json and a Qwen tokenizer; `changes` are those of `family_config`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = family_config(family, **changes)
    write_json(folder / "config.json", config)
    write_qwen_tokenizer(folder)
    tensors = dict(family_tensors(family, config, fused=fused, seed=seed))
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    return folder
