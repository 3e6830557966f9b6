"""`franken-gguf retrain-router`: a trained router in a copy of the file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.mixture_check import ROUTER
from franken_gguf.runner.cli import router_prep
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.family_checkpoints import make_family_checkpoint
from support.merges import make_dense, run, write_recipe
from support.models import smollm2
from support.terminals import CTRL_C, Terminal

LINES = "The ferry left at nine, with {} passengers and a goat, and nothing was said of rain.\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "mixture", **SMALL)
    return converted(tmp_path / "mixture", tmp_path, ["Q8_0"])[0]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "ferry.txt"
    path.write_text("".join(LINES.format(number) for number in range(400)), encoding="utf-8")
    return path


def test_only_the_routers_differ_and_the_held_out_text_is_predicted_better(
    model: Path, text: Path
) -> None:
    out = model.parent / "trained.gguf"
    made = run("retrain-router", model, "--text", text, "--steps", 4, "-o", out, "--json")
    assert made.exit_code == 0, made.stderr
    before, after = (np.fromfile(path, np.uint8) for path in (model, out))
    differs = before != after
    for tensor in read_header(model).tensors:
        if tensor.name.endswith(ROUTER):
            rows = slice(tensor.offset, tensor.offset + tensor.nbytes)
            assert differs[rows].any()
            differs[rows] = False
    assert not differs.any()
    document = json.loads(made.stdout)
    assert document["written"]
    assert next(one["text"] for one in document["texts"]) == str(text)
    assert sum(one["change"] for one in document["texts"]) < 0


def test_the_same_command_gives_the_same_file(model: Path) -> None:
    outs = [model.parent / name for name in ("one.gguf", "two.gguf")]
    for out in outs:
        made = run("retrain-router", model, "--steps", 2, "-o", out)
        assert made.exit_code == 0, made.stderr
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_ctrl_c_leaves_nothing(model: Path) -> None:
    out = model.parent / "trained.gguf"
    before = set(model.parent.iterdir())
    with Terminal("retrain-router", str(model), "--steps", "1000", "-o", str(out)) as terminal:
        terminal.wait_for("step [1-9]")
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
        assert "Interrupted." in terminal.text
        assert "Traceback" not in terminal.text
    assert set(model.parent.iterdir()) == before


def test_an_output_is_not_replaced_unless_asked_for(model: Path) -> None:
    out = model.parent / "trained.gguf"
    out.write_bytes(b"mine")
    made = run("retrain-router", model, "-o", out)
    assert made.exit_code == 1
    assert f"{out}: exists already; add --overwrite to replace it" in made.stderr
    assert out.read_bytes() == b"mine"
    made = run("retrain-router", model, "--steps", 2, "-o", out, "--overwrite")
    assert made.exit_code == 0, made.stderr
    assert out.stat().st_size == model.stat().st_size


def test_the_source_is_never_the_output(model: Path) -> None:
    link = model.with_name("link.gguf")
    link.symlink_to(model)
    before = model.read_bytes()
    for out in (model, link):
        made = run("retrain-router", model, "-o", out, "--overwrite")
        assert made.exit_code == 1
        assert "is the source itself; choose another name with -o" in made.stderr
    assert model.read_bytes() == before


def test_a_dense_model_has_no_router(tmp_path: Path) -> None:
    made = run("retrain-router", smollm2(), "-o", tmp_path / "o.gguf")
    assert made.exit_code == 1
    assert "has no router (blk.N.ffn_gate_inp.weight), so it is not a mixture" in made.stderr


def test_an_architecture_with_other_layers_is_refused(tmp_path: Path) -> None:
    make_family_checkpoint(tmp_path / "deep", "deepseek")
    (model,) = converted(tmp_path / "deep", tmp_path, ["F32"])
    made = run("retrain-router", model, "-o", tmp_path / "o.gguf")
    assert made.exit_code == 1
    assert "routers of architecture 'deepseek' cannot be trained" in made.stderr


def test_a_router_that_is_not_f32_is_named(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "mixture", **SMALL)
    (model,) = converted(tmp_path / "mixture", tmp_path, ["F32"])
    data, name = bytearray(model.read_bytes()), f"blk.1.{ROUTER}".encode()
    # After the name: the number of dimensions, two of them, then the type.
    at = data.index(name) + len(name) + 4 + 2 * 8
    assert data[at : at + 4] == bytes(4)
    data[at : at + 4] = (1).to_bytes(4, "little")
    model.write_bytes(data)
    made = run("retrain-router", model, "-o", tmp_path / "o.gguf")
    assert made.exit_code == 1
    assert "router 'blk.1.ffn_gate_inp.weight' is F16, not F32" in made.stderr


def test_nan_in_a_weight_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "mixture", **SMALL)
    (model,) = converted(tmp_path / "mixture", tmp_path, ["F32"])
    (tensor,) = (t for t in read_header(model).tensors if t.name == "blk.1.attn_v.weight")
    data = bytearray(model.read_bytes())
    data[tensor.offset : tensor.offset + 4] = np.float32("nan").tobytes()
    model.write_bytes(data)
    made = run("retrain-router", model, "-o", tmp_path / "o.gguf")
    assert made.exit_code == 1
    assert "tensor 'blk.1.attn_v.weight' holds NaN or Inf" in made.stderr
    assert not (tmp_path / "o.gguf").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Once upon a time.", r"tokens long, and at least 1,024 are needed; give a longer text"),
        (b"", "is empty; give a text to"),
        (b"\x00\x01" * 4000, "is a binary file; give a plain text in UTF-8"),
        (b"caf\xe9 " * 4000, "is not UTF-8: byte 3 is 0xe9"),
    ],
)
def test_a_text_that_cannot_be_trained_on_is_named(
    model: Path, content: bytes, message: str
) -> None:
    text = model.parent / "bad.txt"
    text.write_bytes(content)
    made = run("retrain-router", model, "--text", text, "-o", model.parent / "o.gguf")
    assert made.exit_code == 1
    assert f"{text}: " in made.stderr
    assert message in made.stderr


def test_a_recipe_is_trained_before_it_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_prep, "DEFAULT_STEPS", 4)
    make_dense(tmp_path / "base")
    experts = []
    for number in range(3):
        make_dense(tmp_path / f"e{number}", number + 1)
        experts.append({"source_model": f"e{number}", "positive_prompts": [f"Tale {number}"]})
    files = {}
    for mode in ("balanced", "trained"):
        recipe = write_recipe(tmp_path / f"{mode}.yml", *experts, gate_mode=mode)
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
