"""Names: both expert layouts lead to the same GGUF tensors, and nothing is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from franken_gguf.quantize.checkpoint.families.llama import LLAMA
from franken_gguf.quantize.checkpoint.families.mixtral import MIXTRAL
from franken_gguf.quantize.checkpoint.model_config import ModelConfig
from franken_gguf.quantize.checkpoint.name_mapping import Piece, map_tensors
from franken_gguf.quantize.common.errors import CheckpointError
from support.checkpoints import Layout, checkpoint_tensors

SIZES: dict[str, Any] = {
    "hidden": 32,
    "heads": 4,
    "kv_heads": 2,
    "layers": 12,
    "feed_forward": 64,
    "vocab": 16,
    "tied": False,
    "seed": 0,
}


def shapes(
    layout: Layout = "per-expert", experts: int = 3, **changes: Any
) -> dict[str, tuple[int, ...]]:
    tensors = checkpoint_tensors(layout=layout, experts=experts, **(SIZES | changes))
    return {name: values.shape for name, values in tensors}


def config(**changes: Any) -> ModelConfig:
    return replace(
        ModelConfig(
            family=MIXTRAL,
            layers=12,
            hidden_size=32,
            feed_forward=64,
            heads=4,
            kv_heads=2,
            head_dim=8,
            states_head_dim=False,
            context_length=2048,
            rms_norm_eps=1e-5,
            rope_theta=1e6,
            rope_scaling=None,
            vocab_size=16,
            tied=False,
            experts=3,
            experts_used=2,
            expert_feed_forward=64,
        ),
        **changes,
    )


def test_both_layouts_give_the_same_names_and_shapes() -> None:
    one, other = (map_tensors(config(), shapes(layout)) for layout in ("per-expert", "fused"))
    assert [(t.name, t.shape, t.rotary_heads) for t in one] == [
        (t.name, t.shape, t.rotary_heads) for t in other
    ]


def test_tensors_stand_by_layer_as_a_number_and_then_by_name() -> None:
    names = [tensor.name for tensor in map_tensors(config(), shapes())]
    assert names[:3] == ["output.weight", "output_norm.weight", "token_embd.weight"]
    assert names[3:13] == [
        f"blk.0.{part}.weight"
        for part in (
            "attn_k",
            "attn_norm",
            "attn_output",
            "attn_q",
            "attn_v",
            "ffn_down_exps",
            "ffn_gate_exps",
            "ffn_gate_inp",
            "ffn_norm",
            "ffn_up_exps",
        )
    ]
    assert [int(name.split(".")[1]) for name in names[3::10]] == list(range(12))


def test_the_fused_matrix_gives_its_first_half_of_rows_to_the_gate() -> None:
    mapped = {tensor.name: tensor for tensor in map_tensors(config(), shapes("fused"))}
    fused = "model.layers.5.mlp.experts.gate_up_proj"
    assert mapped["blk.5.ffn_gate_exps.weight"].pieces == (
        Piece(fused, 0, 64),
        Piece(fused, 128, 192),
        Piece(fused, 256, 320),
    )
    assert mapped["blk.5.ffn_up_exps.weight"].pieces == (
        Piece(fused, 64, 128),
        Piece(fused, 192, 256),
        Piece(fused, 320, 384),
    )


def test_w1_is_the_gate_w2_goes_down_and_w3_goes_up() -> None:
    mapped = {tensor.name: tensor for tensor in map_tensors(config(), shapes())}
    sources = {
        name: mapped[f"blk.0.ffn_{name}_exps.weight"].pieces[2].source.split(".")[-2]
        for name in ("gate", "down", "up")
    }
    assert sources == {"gate": "w1", "down": "w2", "up": "w3"}


def test_only_query_and_key_rows_are_rotary() -> None:
    rotary = {
        t.name.split(".")[2]: t.rotary_heads
        for t in map_tensors(config(), shapes())
        if t.rotary_heads
    }
    assert rotary == {"attn_q": 4, "attn_k": 2}


def test_a_dense_model_has_no_experts() -> None:
    names = [t.name for t in map_tensors(config(experts=0, family=LLAMA), shapes("dense"))]
    assert "blk.0.ffn_down.weight" in names
    assert not [name for name in names if "exps" in name or "gate_inp" in name]


def test_tied_embeddings_need_no_output_but_keep_one_that_is_there() -> None:
    tied = map_tensors(config(tied=True), shapes(tied=True))
    assert "output.weight" not in [t.name for t in tied]
    kept = map_tensors(config(tied=True), shapes(tied=False))
    assert "output.weight" in [t.name for t in kept]


def test_attention_biases_are_carried_where_they_exist() -> None:
    have = shapes() | {"model.layers.0.self_attn.k_proj.bias": (16,)}
    mapped = {t.name: t for t in map_tensors(config(), have)}
    assert mapped["blk.0.attn_k.bias"].shape == (16,)
    assert mapped["blk.0.attn_k.bias"].rotary_heads == 2


@pytest.mark.parametrize("layout", ["per-expert", "fused", "dense"])
def test_every_missing_tensor_is_named(layout: Layout) -> None:
    have = shapes(layout, layers=1)
    dense = {"experts": 0, "family": LLAMA} if layout == "dense" else {}
    settings = config(layers=1, **dense)
    for name in have:
        if layout == "fused" and name.endswith(("gate_up_proj", "mlp.gate.weight")):
            continue  # without these the layout itself is another
        rest = {other: shape for other, shape in have.items() if other != name}
        with pytest.raises(CheckpointError, match=f"'{name}' is missing"):
            map_tensors(settings, rest)


def test_an_expert_too_few_is_missing_and_one_too_many_has_no_place() -> None:
    router = {f"model.layers.{n}.block_sparse_moe.gate.weight": (4, 32) for n in range(12)}
    with pytest.raises(CheckpointError, match=r"experts\.3\.w1\.weight' is missing"):
        map_tensors(config(experts=4), shapes() | router)
    router = dict.fromkeys(router, (2, 32))
    with pytest.raises(CheckpointError, match=r"does not belong .* num_local_experts"):
        map_tensors(config(experts=2), shapes() | router)


def test_a_shape_that_config_json_does_not_have_is_named_with_both() -> None:
    have = shapes() | {"model.norm.weight": (31,)}
    with pytest.raises(
        CheckpointError, match=r"'model\.norm\.weight' has the shape \[31\].*\[32\]"
    ):
        map_tensors(config(), have)


def test_rotary_frequencies_of_old_exports_are_passed_over() -> None:
    have = shapes() | {"model.layers.0.self_attn.rotary_emb.inv_freq": (4,)}
    assert map_tensors(config(), have) == map_tensors(config(), shapes())
