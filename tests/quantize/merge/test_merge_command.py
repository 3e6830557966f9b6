"""The merge command: the checkpoint it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from franken_gguf.runner.cli import main
from support.conversions import converted, digest
from support.merges import make_dense, write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "poet", "cook")):
        make_dense(tmp_path / name, seed)
    poet, cook = {"source_model": "poet"}, {"source_model": "cook", "noise_scale": 0.1}
    return write_recipe(tmp_path / "tales.yml", poet, cook, dtype="float16")


def merge(*words: object) -> Result:
    return CliRunner().invoke(main, ["merge", *map(str, words)])


@pytest.mark.parametrize("layout", ["per-expert", "fused"])
def test_the_checkpoint_converts_to_the_files_that_the_recipe_does(
    recipe: Path, tmp_path: Path, layout: str
) -> None:
    folder = tmp_path / "merged" / "tales"
    folder.parent.mkdir()
    result = merge(recipe, folder, "--layout", layout)
    assert (result.exit_code, result.stdout) == (0, f"{folder}\n")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "mergekit_moe_config.yml",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (folder / "mergekit_moe_config.yml").read_text() == recipe.read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["tales"]
    types = ["F16", "Q4_0"]
    ours = converted(folder, tmp_path / "a", types)
    assert [digest(path) for path in ours] == [
        digest(path) for path in converted(recipe, tmp_path / "b", types)
    ]


def test_both_layouts_hold_the_same_numbers_under_their_names(recipe: Path, tmp_path: Path) -> None:
    for layout in ("per-expert", "fused"):
        assert merge(recipe, tmp_path / layout, "--layout", layout).exit_code == 0
    one, fused = (
        load_file(tmp_path / name / "model.safetensors") for name in ("per-expert", "fused")
    )
    for layer in range(2):
        moe, mlp = f"model.layers.{layer}.block_sparse_moe", f"model.layers.{layer}.mlp"
        assert (one[f"{moe}.gate.weight"] == fused[f"{mlp}.gate.weight"]).all()
        for e in range(2):
            w1, w2, w3 = (one[f"{moe}.experts.{e}.{name}.weight"] for name in ("w1", "w2", "w3"))
            assert (fused[f"{mlp}.experts.gate_up_proj"][e] == np.concatenate([w1, w3])).all()
            assert (fused[f"{mlp}.experts.down_proj"][e] == w2).all()
    assert len(one) - len(fused) == 2 * (2 * 3 - 2)


def test_shards_are_no_larger_than_asked_for_and_the_index_finds_all(
    recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert merge(recipe, folder, "--max-shard-size", "150K").exit_code == 0
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    found: dict[str, str] = {}
    files = sorted(set(index["weight_map"].values()))
    assert 1 < len(files) < len(index["weight_map"])
    for file in files:
        tensors = load_file(folder / file)
        assert len(tensors) == 1 or sum(int(one.nbytes) for one in tensors.values()) <= 150_000
        found |= dict.fromkeys(tensors, file)
    assert found == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(
        one.nbytes for file in set(found.values()) for one in load_file(folder / file).values()
    )
    whole = converted(recipe, tmp_path / "a", ["F16"])
    # The folder's name is the model's: give it the recipe's.
    folder.rename(tmp_path / "tales")
    assert read_tensors(converted(tmp_path / "tales", tmp_path / "b", ["F16"])[0]) == read_tensors(
        whole[0]
    )


def read_tensors(path: Path) -> bytes:
    """All of a file but its header, whose model card names the folder it was written to."""
    return path.read_bytes()[-400_000:]


def add_token(folder: Path, text: str) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    last = max(token["id"] for token in document["added_tokens"])
    number = max(last, *document["model"]["vocab"].values()) + 1
    document["added_tokens"].append(document["added_tokens"][0] | {"id": number, "content": text})
    path.write_text(json.dumps(document))


def test_tokens_that_only_an_expert_has_are_named(recipe: Path, tmp_path: Path) -> None:
    assert "token" not in merge(recipe, tmp_path / "same").stderr
    add_token(tmp_path / "cook", "<|tale|>")
    result = merge(recipe, tmp_path / "out")
    assert result.exit_code == 0
    assert " ".join(result.stderr.split()) == (
        f"{tmp_path / 'cook'}: has 1 token that the base model lacks (<|tale|>); to keep them, "
        "write tokenizer_source: union"
    )


def test_an_expert_of_another_vocabulary_is_reported(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "poet" / "tokenizer.json"
    document = json.loads(path.read_text())
    vocab = document["model"]["vocab"]
    numbers = sorted(vocab.values())
    document["model"]["vocab"] = dict(zip(sorted(vocab, key=vocab.get), numbers[::-1], strict=True))
    path.write_text(json.dumps(document))
    assert "trained on another vocabulary" in " ".join(
        merge(recipe, tmp_path / "out").stderr.split()
    )
