"""`franken-gguf imatrix` at a terminal: its table, Ctrl-C and resuming; and a recipe as source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.imatrix_cases import tensors_of, write_text
from support.merges import run, write_recipe
from support.models import smollm2
from support.terminals import CTRL_C, Terminal

CUT = ("-c", "64", "-t", "1")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def test_ctrl_c_keeps_what_is_done_and_the_same_command_resumes(text: Path) -> None:
    out = text.parent / "o.gguf"
    words = (str(smollm2()), "--text", str(text), *CUT, "--chunks", "6")
    with Terminal("imatrix", *words, "-o", str(out)) as terminal:
        terminal.wait_for(r"[1-4] of 6 chunks")
        terminal.type(CTRL_C)
        assert terminal.ended() == 130
        assert "Interrupted; run the same command to resume." in terminal.text
        assert "Traceback" not in terminal.text
    assert not out.exists()
    resumed = run("imatrix", *words, "-o", out)
    assert resumed.exit_code == 0, resumed.stderr
    whole = run("imatrix", *words, "-o", text.parent / "whole.gguf")
    assert whole.exit_code == 0, whole.stderr
    assert out.read_bytes() == (text.parent / "whole.gguf").read_bytes()


@pytest.mark.parametrize("columns", [60, 120])
def test_the_table_of_a_mixture_fits_the_terminal(text: Path, columns: int) -> None:
    (model,) = converted(
        make_checkpoint(text.parent / "eight", experts=8, **SMALL), text.parent / "q", ["F32"]
    )
    words = ("--text", str(text), *CUT, "-o", str(text.parent / "o.gguf"))
    with Terminal("imatrix", str(model), *words, columns=columns) as terminal:
        terminal.wait_for("fewest tokens: ")
        assert terminal.ended() == 0
    table = terminal.text[terminal.text.index("Share of the tokens") :]
    shares = [line.rstrip() for line in table.splitlines() if "%" in line]
    assert len(shares) == SMALL["layers"]
    assert max(map(len, shares)) <= columns
    assert "expert" in table


def test_a_recipe_is_merged_into_a_temporary_file(text: Path) -> None:
    dense = make_checkpoint(text.parent / "dense", layout="dense", **SMALL)
    recipe = write_recipe(
        text.parent / "two.yml",
        {"source_model": str(dense)},
        {"source_model": str(dense)},
        base_model=str(dense),
        gate_mode="random",
    )
    out = text.parent / "o.gguf"
    before = set(text.parent.iterdir())
    made = run("imatrix", recipe, "--text", text, *CUT, "--base-type", "F32", "-o", out, "--json")
    assert made.exit_code == 0, made.stderr
    assert set(text.parent.iterdir()) - before == {out}
    counts = tensors_of(out)["blk.0.ffn_down_exps.weight.counts"]
    assert counts.size == 2
    assert counts.sum() == 2 * 64 * json.loads(made.stdout)["chunks"]


def test_chat_template_renders_the_built_in_dialogues(text: Path) -> None:
    words = (smollm2(), *CUT, "--chunks", "8", "--json")
    plain, rendered = text.parent / "plain.gguf", text.parent / "rendered.gguf"
    for out, more in ((plain, ()), (rendered, ("--chat-template",))):
        made = run("imatrix", *words, *more, "-o", out)
        assert made.exit_code == 0, made.stderr
    assert plain.read_bytes() != rendered.read_bytes()
