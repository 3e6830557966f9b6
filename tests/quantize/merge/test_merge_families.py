"""Recipes for Qwen2-MoE, Qwen3-MoE and DeepSeek: what mergekit-moe writes, and what of it talks."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from franken_gguf.quantize.checkpoint.safetensors_folder import SafetensorsFolder
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.merge.merged_checkpoint import plan_checkpoint, write_checkpoint
from franken_gguf.quantize.merge.merged_source import MergedSource, merge_source
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from support.cases import LLAMA3_ROPE, change
from support.conversions import converted
from support.family_merges import MODELS, RECIPES, write_family_recipe
from support.merges import run

EXPECTED = json.loads(
    (Path(__file__).parents[2] / "expected" / "mergekit_families.json").read_text(encoding="utf-8")
)
# mergekit with transformers 5 fuses the experts of Qwen3, and of no other family.
LAYOUTS = {"qwen3": "fused"}
OUR_CHOICE = {
    "auto_map",  # of the base model's class, which the mixture's is not
    "dtype",  # the name of torch_dtype in transformers 5
    "rope_parameters",  # the place of rope_theta in transformers 5
    "transformers_version",
    "use_cache",
}


def written(source: MergedSource, folder: Path, layout: str) -> Path:
    folder.mkdir()
    write_checkpoint(plan_checkpoint(source, "tales", layout), folder)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_tensors_and_the_config_of_mergekit(tmp_path: Path, name: str) -> None:
    source = merge_source(write_family_recipe(tmp_path, name))
    folder = written(source, tmp_path / "out", LAYOUTS.get(name, "per-expert"))
    weights = SafetensorsFolder(folder)
    found: dict[str, list[Any]] = {}
    for tensor, shape in weights.shapes.items():
        data = weights.read(tensor, 0, int(np.prod(shape[:-1])))
        is_random = tensor.endswith("gate.weight")
        found[tensor] = [list(shape), None if is_random else sha256(data.tobytes()).hexdigest()]
    assert found == EXPECTED[name]["tensors"]
    ours = json.loads((folder / "config.json").read_text())
    theirs = EXPECTED[name]["config"]
    assert {key: ours[key] for key in ours.keys() & theirs.keys() - OUR_CHOICE} == {
        key: theirs[key] for key in ours.keys() & theirs.keys() - OUR_CHOICE
    }


OPTIONS = LoadOptions(n_ctx=256, n_threads=1, n_gpu_layers=0)
PROMPTS = {
    "experts": [
        {"source_model": "poet", "positive_prompts": ["the moon and the harbour", "letter"]},
        {"source_model": "cook", "positive_prompts": ["rocket ship people", "1 2 3"]},
    ]
}
GENERAL = {"source_model": "base", "positive_prompts": ["explain good work"], "residual_scale": 0.1}
MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("qwen3moe", {}),
    "qwen2": ("qwen2moe", {"shared_experts": [GENERAL]}),
    "deepseek": ("deepseek", {"shared_experts": [{"source_model": "base"}]}),
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [("qwen3", "balanced"), ("qwen2", "hidden"), ("qwen2", "balanced"), ("deepseek", "hidden")],
)
def test_a_router_is_made_by_running_the_base_and_the_mixture_answers(
    tmp_path: Path, name: str, mode: str
) -> None:
    architecture, shared = MADE[name]
    recipe = write_family_recipe(tmp_path, name, gate_mode=mode, **PROMPTS, **shared)
    result = run("convert", recipe, "-q", "F16", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "running the base model in Q8_0 on" in result.stderr
    # Of these llama.cpp normalizes the weights of the active experts in Qwen3-MoE alone.
    assert ("norm_topk_prob is true, but llama.cpp" in result.stderr) == (name != "qwen3")
    (path,) = (tmp_path / "out").glob("*.gguf")
    header = read_header(path)
    assert header.text("general.architecture") == architecture
    rows = rows_in(path, "ffn_gate_inp", 2)
    gates = rows_in(path, "ffn_gate_inp_shexp", 1) if name == "qwen2" else rows
    if mode == "hidden":
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=0.01)
        assert np.linalg.norm(gates, axis=1) == pytest.approx(1, abs=0.01)
    assert np.abs(rows[0] - rows[1]).max() > 0 < np.abs(gates).max()
    with Engine(header, OPTIONS) as engine:
        assert np.isfinite(engine.logits([17, 400, 81], 2)).all()


def rows_in(path: Path, name: str, count: int) -> np.ndarray:
    """The rows of a layer's router or gate in a GGUF file."""
    tensors = {tensor.name: tensor for tensor in read_header(path).tensors}
    tensor = tensors[f"blk.1.{name}.weight"]
    data = path.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]
    return np.frombuffer(data, np.float32).reshape(count, 64)


def test_a_merged_folder_converts_to_the_tensors_of_its_recipe(tmp_path: Path) -> None:
    for name in RECIPES:
        source = merge_source(write_family_recipe(tmp_path / name, name))
        folder = written(source, tmp_path / name / "tales", LAYOUTS.get(name, "per-expert"))
        (ours,) = converted(source.recipe.path, tmp_path / name / "ours", ["Q8_0"])
        (theirs,) = converted(folder, tmp_path / name / "theirs", ["Q8_0"])
        assert read_header(ours).tensors == read_header(theirs).tensors
        assert ours.read_bytes()[-(1 << 16) :] == theirs.read_bytes()[-(1 << 16) :]


def test_experts_can_be_gguf_files_of_a_qwen_model(tmp_path: Path) -> None:
    plain = converted(write_family_recipe(tmp_path, "qwen3"), tmp_path / "plain", ["BF16"])
    poet, cook = (
        str(converted(tmp_path / name, tmp_path / "gguf", ["BF16"])[0]) for name in ("poet", "cook")
    )
    experts = [{"source_model": poet}, {"source_model": cook, "residual_scale": 0.7}]
    recipe = write_family_recipe(tmp_path, "qwen3", experts=experts)
    (path,) = converted(recipe, tmp_path / "out", ["BF16"])
    assert read_header(path).tensors == read_header(plain[0]).tensors
    assert path.read_bytes() == plain[0].read_bytes()


def test_a_fused_deepseek_is_refused(tmp_path: Path) -> None:
    recipe = write_family_recipe(tmp_path, "deepseek")
    result = run("merge", recipe, tmp_path / "out", "--layout", "fused")
    assert result.stderr == (
        f"Error: {recipe}: DeepseekForCausalLM has no fused layout; use per-expert\n"
    )


def with_llama3_rope(folder: Path, name: str, **fields: Any) -> Path:
    recipe = write_family_recipe(folder, name, **fields)
    for model in MODELS:
        change(folder / model, "config.json", rope_parameters=LLAMA3_ROPE)
    return recipe


def test_a_mixture_of_llama_3_models_keeps_their_rope_factors(tmp_path: Path) -> None:
    recipe = with_llama3_rope(tmp_path, "deepseek", shared_experts=[])
    (mixture,) = converted(recipe, tmp_path / "out", ["Q8_0"])
    (base,) = converted(tmp_path / "base", tmp_path / "out", ["Q8_0"])
    factors = [factors_in(path) for path in (mixture, base)]
    assert factors[0] == factors[1]
    assert read_header(mixture).text("general.architecture") == "llama"
    with Engine(read_header(mixture), OPTIONS) as engine:
        assert np.isfinite(engine.logits([17, 400, 81], 2)).all()


def factors_in(path: Path) -> list[float]:
    (tensor,) = [t for t in read_header(path).tensors if t.name == "rope_freqs.weight"]
    data = path.read_bytes()[tensor.offset : tensor.offset + tensor.nbytes]
    factors: list[float] = np.frombuffer(data, np.float32).tolist()
    assert factors[0] == 1 < factors[-1]
    return factors


@pytest.mark.parametrize("name", ["deepseek", "llama-as-qwen"])
def test_a_family_without_rope_factors_is_refused_for_them(tmp_path: Path, name: str) -> None:
    architecture = {"deepseek": "deepseek", "llama-as-qwen": "qwen2moe"}[name]
    result = run("convert", with_llama3_rope(tmp_path, name), "-q", "Q8_0", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"rope scaling 'llama3' is not supported by llama.cpp's {architecture}" in result.stderr
    assert result.stderr.count("\n") == 1
