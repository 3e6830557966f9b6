"""What describes a model family: the defaults of its class, its tensors, keys and experts.

llama.cpp's converter reads every config.json through transformers' configuration classes, so the
defaults here are those of transformers 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

QKV_BIASES = ("attn_q", "attn_k", "attn_v")
ALL_BIASES = (*QKV_BIASES, "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class SharedExpert:
    """The feed-forward network that works on every token beside the chosen experts."""

    module: str
    """Its name in `mlp`: shared_expert, shared_experts."""
    width: str | None = None
    """The field of config.json with its width."""
    count: str | None = None
    """Without a `width`: the field with the number of experts that it is as wide as."""
    gate: str | None = None
    """The module in `mlp` that weighs it, [1, hidden]; None if its weight is 1."""

    def network(self, layer: int) -> str:
        """The module of its three matrices, gate_proj, up_proj and down_proj."""
        return f"model.layers.{layer}.mlp.{self.module}"

    def gate_weight(self, layer: int) -> str:
        """The tensor of its gate."""
        return f"model.layers.{layer}.mlp.{self.gate}.weight"


@dataclass(frozen=True)
class Experts:
    """The experts of a mixture: their fields in config.json and their modules."""

    count: tuple[str, ...]
    """Fields with the number of experts; the first that is there counts."""
    used: int
    """The default of num_experts_per_tok."""
    width: str = "moe_intermediate_size"
    """The field with the width of an expert."""
    block: str = "mlp"
    """The module that holds the router and, in the per-expert layout, the experts."""
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    shared: SharedExpert | None = None
    leading_dense: str | None = None
    """The field with the number of first layers that have no experts."""
    normalized: bool = True
    """Whether llama.cpp scales the active experts' weights to a sum of 1 (norm_topk_prob)."""
    can_be_fused: bool = True
    """Whether there is a layout with all experts in one tensor."""

    def router(self, layer: int) -> str:
        """The tensor of a layer's router in the per-expert layout."""
        return f"model.layers.{layer}.{self.block}.gate.weight"

    def matrix(self, layer: int, expert: int, part: str) -> str:
        """The tensor of an expert's `gate`, `up` or `down` in the per-expert layout."""
        return f"model.layers.{layer}.{self.block}.experts.{expert}.{part}.weight"


@dataclass(frozen=True)
class MergeOutput:
    """When mergekit-moe writes this family, and from what."""

    name: str
    """mergekit's name for it; a recipe's `architecture` is the start of this."""
    bases: tuple[str, ...]
    """The model_type of the base model and of every expert: one of these, the same for all."""
    shared_experts: tuple[int, int]
    """The smallest and largest number of them."""
    biases: bool = False
    """Whether Q, K and V may have biases."""
    zero_biases: bool = False
    """Whether they get biases of zero if the base model has none."""
    config: Mapping[str, object] = field(default_factory=dict)
    """Fields of its config.json that are always the same."""


@dataclass(frozen=True)
class Family:
    """A Hugging Face model class: how its checkpoints are read, and what llama.cpp calls them."""

    class_name: str
    """In config.json's `architectures`."""
    model_type: str
    """In config.json."""
    architecture: str
    """llama.cpp's name, which also begins the GGUF's keys."""
    context_length: int
    rope_theta: float
    rms_norm_eps: float
    kv_heads: int | None
    """None for as many as there are query heads."""
    head_dim: int | None = None
    """None for hidden_size / heads."""
    writes_head_dim: bool = False
    """True when the class always has a head_dim, so the GGUF has key_length and value_length."""
    rotary_pairs: bool = False
    """Whether llama.cpp rotates neighbouring rows of Q and K, so that these must be reordered."""
    square_attention: bool = True
    """Whether llama.cpp needs heads * head_dim to be hidden_size."""
    ties_output: bool = True
    """Whether llama.cpp can use the embeddings as the output matrix."""
    rope_scalings: tuple[str, ...] = ("linear", "yarn")
    biases: tuple[str, ...] = QKV_BIASES
    """GGUF names of the matrices that may have a bias."""
    qk_norm: bool = False
    """Whether the heads of Q and K are normalized (attn_q_norm, attn_k_norm)."""
    keys: tuple[str, ...] = ()
    """The GGUF's keys after general.file_type, in the converter's order; see metadata.py."""
    only: Mapping[str, object] = field(default_factory=dict)
    """Fields of config.json for which llama.cpp knows a single value."""
    experts: Experts | None = None
    merge: MergeOutput | None = None
