"""Weights that are no numbers, or too large for the dtype, do not get into a mixture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from franken_gguf.quantize.blocks.float_types import is_finite
from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.common.errors import CheckpointError, MergeError
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.engine.hidden_states import hidden_states
from support.checkpoints import write_safetensors
from support.merges import dense_tensors, make_adapter, make_dense, write_recipe

ROUTER = "model.layers.1.block_sparse_moe.gate.weight"
COMMAND = str(Path(sys.executable).with_name("franken-gguf"))
UP = "model.layers.0.mlp.up_proj"
BROKEN = "holds NaN or Inf"
NO_MORE = "write dtype: bfloat16 in the recipe"


def make_spoilt(folder: Path, tensor: str, value: float) -> Path:
    """A dense model in float32 with one weight that is `value`, in row 5 of a matrix."""
    make_dense(folder, dtype="F32")
    tensors = dense_tensors(0)
    tensors[tensor][-1 if tensors[tensor].ndim == 1 else (5, 7)] = value
    write_safetensors(folder / "model.safetensors", tensors, "F32")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_dense(folder / "base")
    make_spoilt(folder / "nan", f"{UP}.weight", np.nan)
    make_spoilt(folder / "inf", f"{UP}.weight", -np.inf)
    make_spoilt(folder / "large", f"{UP}.weight", 1e6)
    make_spoilt(folder / "largest", "model.layers.1.mlp.down_proj.weight", 3e38)
    make_spoilt(folder / "norm", "model.norm.weight", np.nan)
    for name, value in (("nan-adapter", np.nan), ("huge-adapter", 3e38)):
        adapter = make_adapter(folder / name, {UP: (96, 64)})
        tensors = {
            f"base_model.model.{UP}.lora_A.weight": np.full((3, 64), 0.5, np.float32),
            f"base_model.model.{UP}.lora_B.weight": np.full((96, 3), value, np.float32),
        }
        write_safetensors(adapter / "adapter_model.safetensors", tensors, "F32")
    return folder


# Expert, fields of the recipe, which model is named, which tensor, and what is said.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str, str]] = {
    "NaN": ({"source_model": "nan"}, {}, "nan", f"{UP}.weight", f"{BROKEN} in row 5"),
    "Inf as it is stored": (
        {"source_model": "inf"},
        {"dtype": "float32"},
        "inf",
        f"{UP}.weight",
        f"{BROKEN} in row 5",
    ),
    "NaN in the base's norm": (
        {"source_model": "base"},
        {"base_model": "norm"},
        "norm",
        "model.norm.weight",
        f"{BROKEN} in row 0",
    ),
    "NaN in an adapter": (
        {"source_model": "base+nan-adapter"},
        {},
        "nan-adapter",
        f"base_model.model.{UP}.lora_B.weight",
        f"{BROKEN}; the adapter is broken",
    ),
    "an adapter that overflows": (
        {"source_model": "base+huge-adapter"},
        {},
        "huge-adapter",
        f"{UP}.weight",
        f"{BROKEN} in row 0",
    ),
    "too large for float16": (
        {"source_model": "large"},
        {"dtype": "float16"},
        "large",
        f"{UP}.weight",
        f"weights as large as 1e+06, beyond float16's range; {NO_MORE}",
    ),
    "too large once scaled": (
        {"source_model": "largest", "residual_scale": 4},
        {},
        "largest",
        "model.layers.1.mlp.down_proj.weight",
        "lower noise_scale or residual_scale",
    ),
}


@pytest.mark.parametrize("verb", ["merge", "convert"])
@pytest.mark.parametrize("what", CASES)
def test_the_tensor_the_model_and_the_fix_are_named(
    models: Path, tmp_path: Path, what: str, verb: str
) -> None:
    expert, fields, model, tensor, said = CASES[what]
    recipe = write_recipe(models / f"{what} {verb}.yml", expert, {"source_model": "base"}, **fields)
    rest = (
        [str(tmp_path / "out")] if verb == "merge" else ["-q", "Q8_0", "-o", f"{tmp_path}/x.gguf"]
    )
    done = subprocess.run(
        [COMMAND, verb, str(recipe), *rest], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert f"{model}: tensor {tensor!r}" in done.stderr
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_run_for_its_states_is_named(models: Path, tmp_path: Path) -> None:
    experts = [{"source_model": "base", "positive_prompts": [text]} for text in ("moon", "salt")]
    recipe = write_recipe(models / "run.yml", *experts, base_model="norm", gate_mode="hidden")
    with pytest.raises(CheckpointError, match=r"norm: tensor 'model\.norm\.weight' holds NaN"):
        hidden_states(merge_source(recipe).base_source(), [[1]], find_preset("Q8_0"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_router_too_large_for_float16_does_not_become_infinite(models: Path) -> None:
    experts = [{"source_model": "base"}] * 2
    weights = merge_source(write_recipe(models / "gate.yml", *experts, dtype="float16")).weights
    weights.rows = np.full((2, 2, 64), 1e5, np.float32)
    with pytest.raises(MergeError, match=rf"{ROUTER!r} holds weights as large as 1e\+05, beyond"):
        weights.read(ROUTER, 0, 2)


def test_what_fits_bfloat16_is_merged_into_it(models: Path, tmp_path: Path) -> None:
    experts = {"source_model": "large"}, {"source_model": "base"}
    recipe = write_recipe(models / "fits.yml", *experts, dtype="bfloat16")
    done = subprocess.run(
        [COMMAND, "merge", str(recipe), str(tmp_path / "out")], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
@given(st.data())
def test_whatever_the_bits_they_are_finite_or_not(name: str, data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=5))
    bits = data.draw(arrays(np.uint32 if name == "F32" else np.uint16, shape)).view(np.uint8)
    assert is_finite(bits, name) == bool(np.isfinite(FORMATS[name].dequantize(bits)).all())
