"""The models of a recipe: what of a GGUF file or an adapter reaches the mixture; what is odd."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from franken_gguf.quantize.common.errors import FrankenError, MergeError
from franken_gguf.quantize.merge.config_files import write_config_files
from franken_gguf.quantize.merge.merged_source import merge_source
from support.bpe_tokenizers import write_json
from support.checkpoints import write_safetensors
from support.conversions import converted
from support.merges import dense_tensors, make_adapter, make_dense, rows_of, write_recipe

UP = "model.layers.0.mlp.up_proj"
POET, COOK = {"source_model": "poet"}, {"source_model": "cook"}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(tmp_path / name, seed)
    return tmp_path


def with_tensor(source: Path, out: Path, name: str) -> Path:
    """A copy of a GGUF file with a tensor of ones more."""
    reader = GGUFReader(source)
    writer = GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if field.name.startswith("llama."):
            writer.add_uint32(field.name, int(field.contents()))
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.add_tensor(name, np.ones(96, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def test_an_adapter_that_reaches_beyond_the_experts_may_stand_on_a_gguf_file(models: Path) -> None:
    """Most do: attention is trained with the rest, and an expert has no use for it."""
    (file,) = converted(models / "poet", models / "gguf", ["BF16"])
    matrices = {"q": 64, "k": 32, "v": 32, "o": 64}
    attention = {f"model.layers.1.self_attn.{m}_proj": (n, 64) for m, n in matrices.items()}
    make_adapter(models / "verse", {UP: (96, 64), **attention, "lm_head": (1024, 64)})
    recipe = write_recipe(
        models / "tales.yml", {"source_model": f"{file}+verse"}, {"source_model": "poet+verse"}
    )
    source = merge_source(recipe)
    one, other = (
        rows_of(source, f"model.layers.0.block_sparse_moe.experts.{n}.w3.weight") for n in (0, 1)
    )
    assert (one == other).all()


def test_biases_of_a_gguf_expert_are_refused_as_those_of_a_folder(models: Path) -> None:
    (file,) = converted(models / "poet", models / "gguf", ["F16"])
    odd = with_tensor(file, models / "odd.gguf", "blk.0.ffn_up.bias")
    with pytest.raises(
        MergeError, match=r"odd\.gguf: .*up_proj\.weight has a bias, which experts cannot have"
    ):
        merge_source(write_recipe(models / "tales.yml", {"source_model": str(odd)}, COOK))


def test_a_second_spelling_of_a_gguf_tensor_takes_no_place(models: Path) -> None:
    (file,) = converted(models / "poet", models / "gguf", ["BF16"])
    odd = with_tensor(file, models / "odd.gguf", "blk.00.ffn_up.weight")
    recipe = write_recipe(models / "tales.yml", {"source_model": str(odd)}, POET)
    source = merge_source(recipe)
    one, other = (
        rows_of(source, f"model.layers.0.block_sparse_moe.experts.{n}.w3.weight") for n in (0, 1)
    )
    assert (one == other).all()


def test_an_adapter_on_the_base_that_the_experts_replace_is_refused(models: Path) -> None:
    make_adapter(models / "verse", {UP: (96, 64)})
    fields = {"base_model": "base+verse"}
    with pytest.raises(MergeError, match=r"verse: changes only feed-forward layers, and"):
        merge_source(write_recipe(models / "tales.yml", POET, COOK, **fields))
    prompts = [one | {"positive_prompts": [one["source_model"]]} for one in (POET, COOK)]
    hidden = write_recipe(models / "tales.yml", *prompts, gate_mode="hidden", **fields)
    assert merge_source(hidden).router.prompts()


def test_what_is_wrong_with_the_tokenizer_names_the_base_model(models: Path) -> None:
    (models / "base" / "tokenizer.json").write_text("{")
    with pytest.raises(FrankenError) as error:
        merge_source(write_recipe(models / "tales.yml", POET, COOK))
    assert str(error.value).startswith(f"{models}/base/tokenizer.json: not valid JSON")


def test_a_recipe_may_have_an_odd_name(models: Path) -> None:
    assert merge_source(write_recipe(models / "...yml", POET, COOK)).name == ".."


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("~nobody-at-all/x", r"base_model: '~nobody-at-all/x': no such folder"),
        ("base+", r"base_model: 'base\+': no such folder or file"),
        ("+verse", r"base_model: '\+verse': no such folder or file"),
    ],
)
def test_a_path_that_cannot_be_meant_is_refused(models: Path, model: str, reason: str) -> None:
    make_adapter(models / "verse", {UP: (96, 64)})
    with pytest.raises(MergeError, match=reason):
        merge_source(write_recipe(models / "tales.yml", POET, COOK, base_model=model))


def test_embeddings_that_are_not_finite_make_no_router(models: Path) -> None:
    tensors = dense_tensors(0)
    tensors["model.embed_tokens.weight"][:] = np.nan
    write_safetensors(models / "base" / "model.safetensors", tensors, "BF16")
    prompts = [one | {"positive_prompts": [one["source_model"]]} for one in (POET, COOK)]
    with pytest.raises(
        MergeError, match=r"base: its states or embeddings for the prompts hold NaN or Inf"
    ):
        merge_source(write_recipe(models / "tales.yml", *prompts, gate_mode="cheap_embed"))


def test_a_prompt_that_gives_no_token_is_refused(models: Path) -> None:
    path = models / "base" / "tokenizer.json"
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    write_json(path, json.loads(path.read_text()) | {"normalizer": strip})
    path = models / "base" / "tokenizer_config.json"
    write_json(path, json.loads(path.read_text()) | {"bos_token": None})
    prompts = [POET | {"positive_prompts": ["moon"]}, COOK | {"positive_prompts": ["  "]}]
    with pytest.raises(MergeError, match=r"tales\.yml: experts\[1\]: a prompt has no tokens"):
        merge_source(write_recipe(models / "tales.yml", *prompts, gate_mode="cheap_embed"))


@pytest.mark.parametrize(
    ("prompts", "mode", "reason"),
    [
        ((["\ud800"], ["salt"]), "hidden", r"tales\.yml, line \d+: holds an unpaired surrogate"),
        ((["moon"] * 600, ["salt"] * 600), "hidden", r"experts: 1,200 prompts in all; write at m"),
    ],
)
def test_prompts_that_cannot_be_run_are_refused(
    models: Path, prompts: tuple[list[str], list[str]], mode: str, reason: str
) -> None:
    experts = [
        one | {"positive_prompts": texts} for one, texts in zip((POET, COOK), prompts, strict=True)
    ]
    with pytest.raises(MergeError, match=reason):
        merge_source(write_recipe(models / "tales.yml", *experts, gate_mode=mode))


def test_balanced_has_no_use_for_prompts_that_differ_in_the_negative_ones_alone(
    models: Path,
) -> None:
    experts = [
        one | {"positive_prompts": ["moon"], "negative_prompts": [name]}
        for one, name in ((POET, "salt"), (COOK, "verse"))
    ]
    with pytest.raises(MergeError, match="all have the same prompts"):
        merge_source(write_recipe(models / "tales.yml", *experts, gate_mode="balanced"))
    assert merge_source(write_recipe(models / "tales.yml", *experts, gate_mode="hidden"))


def test_prompts_that_cancel_out_are_reported(models: Path) -> None:
    experts = [
        one | {"positive_prompts": ["moon"], "negative_prompts": ["moon"]} for one in (POET, COOK)
    ]
    experts[1]["positive_prompts"] = ["salt"]
    source = merge_source(write_recipe(models / "tales.yml", *experts, gate_mode="hidden"))
    moon, salt = np.random.default_rng(0).standard_normal((2, 2, 1, 64), np.float32)
    source.route([moon, moon, salt, moon])
    assert "in 2 of 2 layers the experts' router rows are very similar" in source.notices[0]


def test_the_model_card_names_models_as_they_are_called(models: Path) -> None:
    make_dense(models / "a+b `c`\x1b[31m", 3)
    make_adapter(models / "verse", {UP: (96, 64)})
    recipe = write_recipe(
        models / "tales.yml", {"source_model": "a+b `c`\x1b[31m"}, {"source_model": "cook+verse"}
    )
    source = merge_source(recipe)
    (models / "out").mkdir()
    write_config_files(models / "out", source.recipe, source.base_folder, source.weights, "tales")
    card = (models / "out" / "README.md").read_text()
    assert "- `a+b c[31m`\n- `cook` + `verse`\n" in card
