"""A recipe with `gate_mode: trained`: converted with routers that are trained, and interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from franken_gguf.quantize import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.mixture_check import ROUTER
from franken_gguf.runner.cli import router_prep
from support.merges import make_dense, run, write_recipe


def write_trained_recipe(folder: Path) -> Path:
    make_dense(folder / "base")
    experts = []
    for number in range(3):
        make_dense(folder / f"e{number}", number + 1)
        experts.append({"source_model": f"e{number}", "positive_prompts": [f"Tale {number}"]})
    return write_recipe(folder / "trained.yml", *experts, gate_mode="trained")


def test_a_recipe_is_trained_before_it_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_prep, "DEFAULT_STEPS", 4)
    trained = write_trained_recipe(tmp_path)
    balanced = tmp_path / "balanced.yml"
    balanced.write_text(trained.read_text().replace("trained", "balanced"))
    files = {}
    for mode, recipe in (("balanced", balanced), ("trained", trained)):
        words = ("-q", "F32", "--base-type", "F32", "-o", tmp_path / f"{mode}.gguf")
        made = run("convert", recipe, *words)
        assert made.exit_code == 0, made.stderr
        files[mode] = {
            tensor.name: (tmp_path / f"{mode}.gguf").read_bytes()[tensor.offset :][: tensor.nbytes]
            for tensor in read_header(tmp_path / f"{mode}.gguf").tensors
        }
    assert "loss " in made.stderr
    assert "trained" in made.stderr
    other = {name for name, data in files["trained"].items() if data != files["balanced"][name]}
    assert other == {f"blk.{layer}.{ROUTER}" for layer in range(2)}
    assert not list(tmp_path.glob(".franken-gguf-*"))


def test_a_recipes_training_is_kept_until_its_output_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(router_prep, "DEFAULT_STEPS", 2)
    recipe, out = write_trained_recipe(tmp_path), tmp_path / "trained.gguf"
    words = ("convert", recipe, "-q", "F32", "--base-type", "F32", "-o", out)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(convert, "convert", interrupt)
        assert run(*words).exit_code != 0
    assert not out.exists()
    made = run(*words)
    assert made.exit_code == 0, made.stderr
    assert "resuming after step 2 of 2" in made.stderr
    assert not list(tmp_path.glob(".franken-gguf-*"))
