"""What of the other families' config.json and tensors is taken, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from franken_gguf.quantize.checkpoint.families.table import FAMILIES
from franken_gguf.quantize.checkpoint.hf_source import folder_source
from franken_gguf.quantize.common.errors import CheckpointError
from support.cases import change
from support.checkpoints import write_safetensors
from support.family_checkpoints import (
    FamilyName,
    family_config,
    family_tensors,
    make_family_checkpoint,
)

REFUSED: dict[str, tuple[FamilyName, dict[str, Any], str]] = {
    "dense layers among the experts": (
        "qwen2_moe",
        {"decoder_sparse_step": 2},
        "decoder_sparse_step 2 is not supported; llama.cpp's qwen2moe only has 1",
    ),
    "dense layers by number": (
        "qwen3_moe",
        {"mlp_only_layers": [0]},
        r"mlp_only_layers \[0\] is not supported; llama.cpp's qwen3moe only has \[\]",
    ),
    "another score": (
        "deepseek",
        {"scoring_func": "sigmoid"},
        "scoring_func 'sigmoid' is not supported; llama.cpp's deepseek only has 'softmax'",
    ),
    "no shared expert": ("deepseek", {"n_shared_experts": None}, "n_shared_experts is missing"),
    "experts without a number": ("qwen3_moe", {"num_experts": None}, "num_experts is missing"),
    "more active than there are": (
        "qwen2_moe",
        {"num_experts_per_tok": 5},
        "num_experts_per_tok 5 is more than the 4 experts",
    ),
    "an absurd number of experts": (
        "deepseek",
        {"n_routed_experts": 1 << 40},
        "n_routed_experts is 1099511627776, not in the range 1 to 1024",
    ),
    "wide attention": (
        "qwen2",
        {"head_dim": 32},
        "4 heads of head_dim 32 are not hidden_size 64, as llama.cpp's qwen2 needs",
    ),
    "rope factors": (
        "qwen3",
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        "rope scaling 'llama3' is not supported by llama.cpp's qwen3",
    ),
    "a long context": (
        "deepseek",
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "rope scaling 'linear' is not supported by llama.cpp's deepseek",
    ),
    "a negative number of dense layers": (
        "deepseek",
        {"first_k_dense_replace": -1},
        "first_k_dense_replace is -1, not in the range 0 to",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_config_that_llama_cpp_cannot_run_is_refused_by_its_field(
    tmp_path: Path, what: str
) -> None:
    family, changes, reason = REFUSED[what]
    folder = make_family_checkpoint(tmp_path / "m", family)
    change(folder, "config.json", **changes)
    with pytest.raises(CheckpointError, match=reason) as error:
        folder_source(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "deepseek"])
def test_every_missing_tensor_is_named(tmp_path: Path, family: FamilyName) -> None:
    folder = make_family_checkpoint(tmp_path / "m", family)
    tensors = dict(family_tensors(family, family_config(family)))
    # Biases are optional in llama.cpp, as in the classes that share these names.
    names = [name for name in tensors if ".layers.1." in name and "bias" not in name]
    assert len(names) > 8
    for name in names:
        rest = {other: values for other, values in tensors.items() if other != name}
        write_safetensors(folder / "model.safetensors", rest, "BF16")
        with pytest.raises(CheckpointError, match=f"'{name}' is missing"):
            folder_source(folder)


def test_a_tensor_of_another_family_has_no_place(tmp_path: Path) -> None:
    folder = make_family_checkpoint(tmp_path / "m", "qwen3")
    change(folder, "config.json", architectures=["Qwen2ForCausalLM"], head_dim=None)
    change(folder, "config.json", num_attention_heads=2, num_key_value_heads=1)
    with pytest.raises(CheckpointError, match=r"has the shape|does not belong"):
        folder_source(folder)


def test_both_layouts_and_names_of_qwen3s_experts_give_the_same_tensors(tmp_path: Path) -> None:
    one = folder_source(make_family_checkpoint(tmp_path / "a", "qwen3_moe"))
    fused = make_family_checkpoint(tmp_path / "b", "qwen3_moe", fused=True)
    change(fused, "config.json", num_experts=None, num_local_experts=4)
    other = folder_source(fused)
    assert [(t.name, t.shape) for t in one.tensors] == [(t.name, t.shape) for t in other.tensors]
    for a, b in zip(one.tensors, other.tensors, strict=True):
        for x, y in zip(a.pieces, b.pieces, strict=True):
            left = one.read(a, x, x.start, x.stop)
            assert (left == other.read(b, y, y.start, y.stop)).all(), a.name


def test_a_tied_qwen2_moe_gets_the_output_that_llama_cpp_wants(tmp_path: Path) -> None:
    folder = make_family_checkpoint(tmp_path / "m", "qwen2_moe", tie_word_embeddings=True)
    tensors = {tensor.name: tensor for tensor in folder_source(folder).tensors}
    assert tensors["output.weight"].pieces == tensors["token_embd.weight"].pieces


def test_a_family_is_listed_under_the_name_of_its_class() -> None:
    assert all(name == family.class_name for name, family in FAMILIES.items())
    assert {family.architecture for family in FAMILIES.values()} == {
        "llama", "qwen2", "qwen3", "qwen2moe", "qwen3moe", "deepseek",
    }  # fmt: skip
