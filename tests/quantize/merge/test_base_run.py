"""Running a recipe's base model: what cannot be is said before anything is converted for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.cli import main
from franken_gguf.runner.terminal.text import size
from support.disks import mounted
from support.merges import make_dense, write_recipe

CONTEXT = 24


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Its first prompt is as long as the base model reads at most: BOS and each letter's token."""
    config = make_dense(tmp_path / "base") / "config.json"
    document = json.loads(config.read_text())
    config.write_text(json.dumps(document | {"max_position_embeddings": CONTEXT}))
    return tale(tmp_path, "0" * (CONTEXT - 1))


def tale(folder: Path, prompt: str, mode: str = "hidden") -> Path:
    prompts = (["moon", prompt], ["salt"])
    experts = [
        {"source_model": "base", "noise_scale": 0.1, "positive_prompts": texts} for texts in prompts
    ]
    return write_recipe(folder / "tale.yml", *experts, gate_mode=mode)


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


@pytest.mark.parametrize("mode", ["hidden", "balanced"])
def test_a_prompt_may_be_as_long_as_the_base_model_reads(
    recipe: Path, tmp_path: Path, mode: str
) -> None:
    recipe = tale(tmp_path, "0" * (CONTEXT - 1), mode)
    result = franken("merge", recipe, tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "running the base model in Q8_0 on 3 prompts" in result.stderr


@pytest.mark.parametrize("words", [["merge", "out"], ["convert", "-o", "out"]])
def test_a_prompt_longer_than_the_context_is_named_and_nothing_is_run(
    recipe: Path, tmp_path: Path, words: list[str]
) -> None:
    tale(tmp_path, "0" * CONTEXT)
    verb, *rest, out = words
    result = franken(verb, recipe, *rest, tmp_path / out)
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {recipe}: experts[0]: positive_prompts[1] has {CONTEXT + 1} tokens, more than the "
        f"base model's context of {CONTEXT}; shorten it\n",
    )
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nope", "unknown type 'nope'; known types: "),
        ("q4_k_moe", "a base model cannot run in Q4_K_MOE; use --base-type Q4_K_M\n"),
        ("Q2_K_S", "a base model cannot run in Q2_K_S; use --base-type Q2_K\n"),
    ],
)
@pytest.mark.parametrize("words", [["merge", "out"], ["convert", "--dry-run"], ["inspect"]])
def test_a_type_that_no_base_model_runs_in_is_refused_at_once(
    recipe: Path, name: str, reason: str, words: list[str]
) -> None:
    verb, *rest = words
    result = franken(verb, recipe, *rest, "--base-type", name)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {reason}")


def test_the_room_that_the_base_model_takes_is_asked_for(recipe: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as disk:
        result = franken("convert", recipe, "-q", "Q4_0", "-o", disk / "out.gguf")
        assert not list(disk.iterdir())
    base = merge_source(recipe).base_source()
    needed = size(plan_output(base, recipe, find_preset("Q8_0")).nbytes)
    said, error = result.stderr.splitlines()
    assert said == "running the base model in Q8_0 on 3 prompts"
    assert error == (
        f"Error: {disk}: the model needs {needed} here while it runs in Q8_0, but 64.0 KiB is "
        "free; make room, or give a smaller --base-type"
    )


def test_what_is_verified_is_the_router_of_the_type_that_it_was_made_in(
    recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    made = franken("convert", recipe, "-q", "BF16", "-o", out, "--base-type", "F32")
    assert made.exit_code == 0, made.stderr
    verify = ["inspect", out, "--verify", recipe]
    assert franken(*verify, "--base-type", "F32").exit_code == 0
    other = franken(*verify)
    assert other.exit_code == 1
    assert "ffn_gate_inp" in other.stdout + other.stderr
