"""`franken-gguf retrain-router`: a trained router in a copy of the file, and what is refused."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.mixture_check import ROUTER
from franken_gguf.runner.imatrix.texts import BUILT_IN
from franken_gguf.runner.ui import task_status
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.family_checkpoints import make_family_checkpoint
from support.merges import run
from support.models import smollm2
from support.terminals import CTRL_C, Terminal

LINES = "The ferry left at nine, with {} passengers and a goat, and nothing was said of rain.\n"


def make_model(folder: Path) -> Path:
    make_checkpoint(folder / "mixture", **SMALL)
    return converted(folder / "mixture", folder, ["Q8_0"])[0]


def make_text(folder: Path) -> Path:
    path = folder / "ferry.txt"
    path.write_text("".join(LINES.format(number) for number in range(400)), encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return make_text(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What three steps write without an interruption."""
    folder = tmp_path_factory.mktemp("whole")
    model, text, out = make_model(folder), make_text(folder), folder / "out.gguf"
    made = run("retrain-router", model, "--text", text, "--steps", 3, "-o", out)
    assert made.exit_code == 0, made.stderr
    return out.read_bytes()


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
    assert sum(one["change"] for one in document["texts"]) < 0
    assert [one["text"] for one in document["texts"]] == [str(text), BUILT_IN]
    assert document["load_after"][0] > 0, "text of one kind leaves no expert without tokens"


def test_the_same_command_gives_the_same_file(model: Path) -> None:
    outs = [model.parent / name for name in ("one.gguf", "two.gguf")]
    for out in outs:
        made = run("retrain-router", model, "--steps", 2, "-o", out)
        assert made.exit_code == 0, made.stderr
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_ctrl_c_keeps_what_is_trained_and_the_same_command_resumes(model: Path, text: Path) -> None:
    out, whole = (model.parent / name for name in ("trained.gguf", "whole.gguf"))
    before = set(model.parent.iterdir())
    words = ("retrain-router", str(model), "--text", str(text), "--steps", "16", "-o")
    with Terminal(*words, str(out)) as terminal:
        terminal.wait_for("step [1-9]")
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
        assert "Interrupted; run the same command to resume." in terminal.text
        assert "Traceback" not in terminal.text
    (kept,) = set(model.parent.iterdir()) - before
    assert [path.suffix for path in kept.iterdir()] == [".npz"]
    resumed = run(*words, out)
    assert resumed.exit_code == 0, resumed.stderr
    assert "resuming after step" in resumed.stderr
    made = run(*words, whole)
    assert made.exit_code == 0, made.stderr
    assert "resuming" not in made.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert set(model.parent.iterdir()) - before == {out, whole}


KILLED = """
import os, signal
from franken_gguf.quantize.common import files
from franken_gguf.quantize.router_training import retrained_file, train
from franken_gguf.runner.cli import main

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def dies_at_step(state, measured, rate):
    return moved(state, measured, rate) if state.done < 2 else die()

moved, train._SAVE_SECONDS = train._moved, 0
{}
main()
"""


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("train._moved = dies_at_step", {".npz", ".lock"}),
        ("files.np.savez = die", {".part", ".lock"}),
        ("retrained_file.write_at = die", {".npz", ".part", ".lock"}),
    ],
)
def test_after_sigkill_the_same_command_resumes_and_leaves_nothing(
    model: Path, text: Path, whole: bytes, moment: str, left: set[str]
) -> None:
    out = model.parent / "trained.gguf"
    words = ("retrain-router", str(model), "--text", str(text), "--steps", "3", "-o", str(out))
    before = set(model.parent.iterdir())
    program = [sys.executable, "-c", KILLED.format(moment), *words]
    killed = subprocess.run(program, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (folder,) = set(model.parent.iterdir()) - before
    assert {path.suffix for path in folder.iterdir()} == left
    resumed = run(*words)
    assert resumed.exit_code == 0, resumed.stderr
    assert ("resuming after step" in resumed.stderr) == (".npz" in left)
    assert set(model.parent.iterdir()) - before == {out}
    assert out.read_bytes() == whole


def test_a_router_that_does_not_matter_is_not_written(model: Path) -> None:
    data = bytearray(model.read_bytes())
    for tensor in read_header(model).tensors:
        if "ffn_down_exps" in tensor.name:
            data[tensor.offset : tensor.offset + tensor.nbytes] = bytes(tensor.nbytes)
    model.write_bytes(data)
    before = set(model.parent.iterdir())
    made = run("retrain-router", model, "--steps", 1, "-o", model.parent / "o.gguf")
    assert made.exit_code == 1
    assert "does not predict the held-out text better" in made.stderr
    assert set(model.parent.iterdir()) == before


def test_progress_is_lines_where_there_is_no_terminal(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_status, "_QUIET_INTERVAL", 0.0)
    made = run("retrain-router", model, "--steps", 2, "-o", model.parent / "o.gguf", "--json")
    assert made.exit_code == 0, made.stderr
    *lines, warning = made.stderr.splitlines()
    assert "the model was hardly trained on such text; a trained router helps little" in warning
    assert [re.sub(r"\d\.\d{3}", "L", line).partition(", 0:")[0] for line in lines] == [
        "training the router on franken-gguf calibration set",
        "measuring the router: text 1 of 1, loss L",
        "training the router: step 1 of 2, loss L",
        "training the router: step 2 of 2, loss L",
        "measuring the trained router: text 1 of 1, loss L",
    ]


def test_a_language_that_the_tokenizer_splits_into_bytes_is_reported(model: Path) -> None:
    georgian = model.parent / "georgian.txt"
    georgian.write_text("ბორანი ცხრა საათზე გავიდა, თორმეტი მგზავრით. " * 60, encoding="utf-8")
    words = ("--steps", 1, "-o", model.parent / "o.gguf")
    made = run("retrain-router", model, "--text", georgian, *words)
    assert made.exit_code == 0, made.stderr
    assert f"{georgian}: the tokenizer needs 2." in made.stderr
    assert "the model was hardly trained on this language" in made.stderr


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


def test_a_router_that_is_not_f32_is_named(
    tmp_path: Path,
) -> None:
    make_checkpoint(tmp_path / "mixture", **SMALL)
    (model,) = converted(tmp_path / "mixture", tmp_path, ["F32"])
    data, name = bytearray(model.read_bytes()), f"blk.1.{ROUTER}".encode()
    # After the name: the number of dimensions, two of them, then the type.
    at = data.index(name) + len(name) + 4 + 2 * 8
    assert data[at : at + 4] == bytes(4)
    data[at : at + 4] = (1).to_bytes(4, "little")
    (tensor,) = (t for t in read_header(model).tensors if t.name == name.decode())
    place = slice(tensor.offset, tensor.offset + tensor.nbytes)
    rows = np.frombuffer(data[place], "<f4").astype("<f2")
    data[place] = rows.tobytes() + bytes(rows.nbytes)
    half = tmp_path / "half.gguf"
    half.write_bytes(data)
    refused = run("retrain-router", half, "-o", tmp_path / "o.gguf")
    assert refused.exit_code == 1
    assert "router 'blk.1.ffn_gate_inp.weight' is F16, not F32; convert the" in refused.stderr
    assert not (tmp_path / "o.gguf").exists()


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
        (b"Once upon a time.", "has 11 tokens, but at least 1,024 are needed; give a longer text"),
        (b"", "is empty; give a file with text in it"),
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
