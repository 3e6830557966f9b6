"""A recipe converted is the mixture that mergekit-moe describes, row for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.checkpoint.safetensors_folder import SafetensorsFolder
from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.merge.lora import LoraWeights
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.journal import identities
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.quantize.tokenizer.tokenizer_check import reference_tokenizer
from support.bpe_tokenizers import write_bpe_tokenizer, write_json
from support.checkpoints import config_json, write_safetensors
from support.conversions import converted, digest
from support.merges import (
    FFN,
    SHAPE,
    bf16,
    dense_tensors,
    make_adapter,
    make_dense,
    rows_of,
    write_recipe,
)

F32 = NDArray[np.float32]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(tmp_path / name, seed)
    return tmp_path


def tensors_of(path: Path, header: Header) -> dict[str, tuple[str, bytes]]:
    """Every tensor's type and bytes."""
    data = path.read_bytes()
    return {
        tensor.name: (tensor.type.name, data[tensor.offset : tensor.offset + tensor.nbytes])
        for tensor in header.tensors
    }


def test_a_recipe_gives_the_files_of_the_merge_it_describes(models: Path) -> None:
    recipe = write_recipe(
        models / "tales.yml",
        *({"source_model": name} for name in ("poet", "cook", "poet")),
    )
    merged = models / "ready" / "tales"
    merged.mkdir(parents=True)
    shape = SHAPE | {"vocab": 1024, "experts": 3, "tied": False}
    config = config_json(layout="per-expert", dtype="BF16", transformers=5, **shape)
    write_json(merged / "config.json", config)
    write_bpe_tokenizer(merged)
    tensors = {name: rows for name, rows in dense_tensors(0).items() if ".mlp." not in name}
    uniform = np.random.default_rng(0).random((2, 3, 64), np.float32) * 2 - 1
    for layer in range(2):
        moe = f"model.layers.{layer}.block_sparse_moe"
        tensors[f"{moe}.gate.weight"] = uniform[layer] / 8
        for expert, seed in enumerate((1, 2, 1)):
            for dense, sparse in FFN.items():
                rows = dense_tensors(seed)[f"model.layers.{layer}.mlp.{dense}.weight"]
                tensors[f"{moe}.experts.{expert}.{sparse}.weight"] = rows
    write_safetensors(merged / "model.safetensors", tensors, "BF16")
    types = ["BF16", "Q8_0", "Q4_0"]
    for ours, theirs in zip(
        converted(recipe, models / "ours", types),
        converted(merged, models / "theirs", types),
        strict=True,
    ):
        own, other = read_header(ours), read_header(theirs)
        # The recipe's model card has tags; all else, and every weight, is the same.
        assert own.metadata.pop("general.tags").data == ["merge", "moe", "mixtral"]
        assert own.metadata == other.metadata
        assert tensors_of(ours, own) == tensors_of(theirs, other)


def test_however_rows_are_dealt_out_the_bytes_are_the_same(models: Path) -> None:
    modules = {"model.layers.1.mlp.up_proj": (96, 64)}
    make_adapter(models / "verse", modules)
    recipe = write_recipe(
        models / "tales.yml",
        {"source_model": "poet+verse", "noise_scale": 0.02, "residual_scale": 0.5},
        {"source_model": "cook"},
    )
    one = converted(recipe, models / "one", ["Q8_0"], threads=1)
    two = converted(recipe, models / "two", ["Q8_0"], threads=2)
    assert digest(one[0]) == digest(two[0])
    source = merge_source(recipe)
    name = "model.layers.1.block_sparse_moe.experts.0.w3.weight"
    whole = source.weights.read(name, 0, 96)
    pieces = [source.weights.read(name, n, min(n + 7, 96)) for n in range(0, 96, 7)]
    assert (np.concatenate(pieces) == whole).all()


def test_noise_has_its_scale_and_the_residual_scale_is_the_down_projections(models: Path) -> None:
    recipe = write_recipe(
        models / "tales.yml",
        {"source_model": "poet", "noise_scale": 0.5},
        {"source_model": "poet", "residual_scale": 0.25},
        {"source_model": "poet", "noise_scale": 0.5},
    )
    source = merge_source(recipe)
    for dense, ours in FFN.items():
        plain = bf16(dense_tensors(1)[f"model.layers.0.mlp.{dense}.weight"])
        noisy, scaled, other = (
            rows_of(source, f"model.layers.0.block_sparse_moe.experts.{n}.{ours}.weight")
            for n in range(3)
        )
        assert np.std(noisy - plain) == pytest.approx(0.5, rel=0.03)
        assert abs(np.mean(noisy - plain)) < 0.03
        assert (noisy != other).any()
        assert (scaled == (plain * 0.25 if dense == "down_proj" else plain)).all()


def test_the_dtype_of_the_recipe_goes_before_that_of_the_base(models: Path) -> None:
    experts = [{"source_model": "poet"}, {"source_model": "cook"}]
    for dtype, kept in (("float16", "F16"), ("float32", "F32"), (None, "BF16")):
        source = open_source(write_recipe(models / "tales.yml", *experts, dtype=dtype))
        assert {tensor.stored.name for tensor in source.tensors} == {kept}


def test_an_expert_may_be_a_gguf_file_of_any_type(models: Path) -> None:
    (lossless,) = converted(models / "poet", models / "gguf", ["BF16"])
    (quantized,) = converted(models / "poet", models / "gguf", ["Q8_0"])
    recipe = write_recipe(
        models / "tales.yml",
        *({"source_model": str(file)} for file in (lossless, quantized, models / "poet")),
    )
    source = merge_source(recipe)
    for ours in FFN.values():
        same, near, plain = (
            rows_of(source, f"model.layers.1.block_sparse_moe.experts.{n}.{ours}.weight")
            for n in range(3)
        )
        assert (same == plain).all()
        error = np.sqrt(np.mean(np.square(near - plain)) / np.mean(np.square(plain)))
        assert 0.001 < error < 0.01


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 6 / np.sqrt(3)),
        ({"alpha_pattern": {"up_proj": 9}}, 3.0),
        ({"alpha_pattern": {"layers.0.mlp.up_proj": 9}}, 2.0),
        ({"alpha_pattern": {"p_proj": 9, "up.proj": 12}}, 4.0),  # a dot is any character to PEFT
        ({"init_lora_weights": "gaussian", "use_rslora": False, "modules_to_save": []}, 2.0),
        ({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "kasa_config": None}, 2.0),
    ],
)
def test_an_adapter_is_added_with_its_scale(
    models: Path, config: dict[str, Any], scale: float
) -> None:
    name = "model.layers.1.mlp.up_proj"
    make_adapter(models / "verse", {name: (96, 64)}, config=config)
    adapter = SafetensorsFolder(models / "verse", "adapter_model")
    a, b = (
        adapter.read(f"base_model.model.{name}.lora_{which}.weight", 0, rows).view(np.float32)
        for which, rows in (("A", 3), ("B", 96))
    )
    plain = bf16(dense_tensors(1)[f"{name}.weight"])
    lora = LoraWeights(SafetensorsFolder(models / "poet"), models / "verse")
    got = lora.read(f"{name}.weight", 5, 96).view(np.float32)
    wanted = plain.astype(np.float64) + scale * (b.astype(np.float64) @ a)
    assert got == pytest.approx(wanted[5:], abs=1e-6)
    assert np.abs(got - plain[5:]).max() > 0.01
    other = "model.layers.0.mlp.up_proj.weight"
    assert lora.dtype(other).name == "BF16"
    assert (lora.read(other, 0, 96) == SafetensorsFolder(models / "poet").read(other, 0, 96)).all()


def test_an_adapter_on_the_base_reaches_the_attention(models: Path) -> None:
    make_adapter(models / "verse", {"model.layers.0.self_attn.v_proj": (32, 64)})
    experts = [{"source_model": "poet"}, {"source_model": "cook"}]
    plain = merge_source(write_recipe(models / "a.yml", *experts))
    tuned = merge_source(write_recipe(models / "b.yml", *experts, base_model="base+verse"))
    changed = [
        name
        for name in plain.weights.shapes
        if (rows_of(plain, name) != rows_of(tuned, name)).any()
    ]
    assert changed == ["model.layers.0.self_attn.v_proj.weight"]


def test_cheap_embed_rows_are_the_summed_embeddings_of_the_prompts(models: Path) -> None:
    recipe = write_recipe(
        models / "tales.yml",
        {"source_model": "poet", "positive_prompts": ["moon", "a sea"], "negative_prompts": ["7"]},
        {"source_model": "cook", "positive_prompts": ["salt"]},
        gate_mode="cheap_embed",
    )
    source = merge_source(recipe)
    table = bf16(dense_tensors(0)["model.embed_tokens.weight"])
    rows = source.weights.rows
    assert rows is not None and rows.shape == (2, 2, 64)
    assert (rows[0] == rows[1]).all()
    tokenize = reference_tokenizer(models / "base")
    sums = [
        [sum(table[n] for text in texts for n in tokenize("<|im_start|>" + text)) for texts in pair]
        for pair in [(["moon", "a sea"], ["7"]), (["salt"], [])]
    ]
    poet, not_poet, cook = (row / np.linalg.norm(row) for row in (*sums[0], sums[1][0]))
    poet = poet - not_poet
    assert rows[0, 0] == pytest.approx(poet / np.linalg.norm(poet), abs=1e-6)
    assert rows[0, 1] == pytest.approx(cook, abs=1e-6)


def test_work_begun_with_another_router_is_not_resumed(models: Path) -> None:
    experts = [
        {"source_model": name, "positive_prompts": [f"a {name}"]} for name in ("poet", "cook")
    ]
    recipe = write_recipe(models / "tales.yml", *experts, gate_mode="hidden")
    states = np.random.default_rng(0).standard_normal((3, 2, 2, 1, 64), np.float32)
    outputs = []
    for one in (states[0], states[0], states[1]):
        source = merge_source(recipe)
        assert source.fingerprint == b""
        source.route(list(one))
        outputs.append(source.fingerprint)
    assert outputs[0] == outputs[1] != outputs[2]
    plan = plan_output(source, models / "x.gguf", find_preset("Q8_0"))
    one, other = (identities(source.stamps, [plan], each)[0] for each in outputs[1:])
    assert one.difference(vars(other)) == "the source has changed since the last run"
