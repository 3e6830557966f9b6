"""fit: the largest file that a machine has room for, and the command that makes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gguf import GGUFReader

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU
from franken_gguf.quantize.open_source import open_source
from franken_gguf.runner.cli import main
from support.second_moments import write_made_up
from support.target_sizes import converted, measured_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured_folder(tmp_path_factory)


def fit(folder: Path, *words: object) -> Result:
    return CliRunner().invoke(main, ["fit", str(folder / "tales"), *map(str, words)])


def test_fit_finds_a_file_that_convert_makes_and_the_planner_has_room_for(folder: Path) -> None:
    result = fit(folder, "--vram", "64MiB", "--ram", "64MiB", "-c", "64", "--json")
    assert result.exit_code == 0, result.output
    best = json.loads(result.stdout)[-1]
    assert best["plan"]["devices"] == ["GPU"]
    target = ("--target-size", best["target_size"], "--n-cpu-moe", best["n_cpu_moe"])
    output = converted(folder, *target, "-o", folder)
    assert output["predicted_kl_divergence"] == best["divergence"]
    assert output["bytes"] <= best["target_size"]


def test_a_shorter_context_leaves_room_for_a_larger_file(folder: Path) -> None:
    words = ("--vram", "0", "--ram", "64MiB", "--json")
    results = [fit(folder, *words, "-c", n_ctx) for n_ctx in (29696, 29184)]
    ((longer,), (shorter,)) = (json.loads(result.stdout) for result in results)
    assert longer["target_size"] < shorter["target_size"]
    assert longer["divergence"] > shorter["divergence"]


def test_fit_prints_the_command_that_makes_the_file(folder: Path) -> None:
    result = fit(folder, "--vram", "0", "--ram", "64MiB", "-c", "64", "--allow-requantize")
    assert result.exit_code == 0, result.output
    assert "all 3 layers on the CPU" in result.stdout
    command = result.stdout.splitlines()[-1].split()
    assert command[:4] == ["franken-gguf", "convert", str(folder / "tales"), "--allow-requantize"]
    assert command[4] == "--target-size"
    assert command[6:] == ["--cpu-moe"], "experts in RAM get types that a CPU decodes fast"
    output = converted(folder, *command[3:], "-o", folder)
    assert f"{output['predicted_kl_divergence']:.4f} from" in result.stdout
    experts = [t for t in GGUFReader(output["path"]).tensors if "_exps" in t.name]
    assert not {tensor.tensor_type.name for tensor in experts} & SLOW_ON_CPU


def test_fit_counts_what_chosen_codes_gain_and_names_their_file_in_the_command(
    folder: Path,
) -> None:
    moments = write_made_up(folder / "moments.gguf", open_source(folder / "tales"))
    # With so long a context, there is no room for the largest types.
    words = ("--vram", "0", "--ram", "64MiB", "-c", "29696")
    (plain,) = json.loads(fit(folder, *words, "--json").stdout)
    (chosen,) = json.loads(fit(folder, *words, "--second-moments", moments, "--json").stdout)
    assert 0 < chosen["divergence"] < plain["divergence"]
    command = fit(folder, *words, "--second-moments", moments).stdout.splitlines()[-1].split()
    assert command[3:5] == ["--second-moments", str(moments)]
    output = converted(folder, *command[3:], "-o", folder)
    assert output["predicted_kl_divergence"] == chosen["divergence"]


@pytest.mark.parametrize(("vram", "n_cpu_moe"), [("0", 2), ("128MiB", 0)])
def test_fit_says_how_many_layers_experts_it_gave_fast_types(
    folder: Path, vram: str, n_cpu_moe: int
) -> None:
    result = fit(folder, "--vram", vram, "--ram", "64MiB", "-c", "64", "--json")
    (found,) = json.loads(result.stdout)
    assert (found["n_cpu_moe"], found["cpu_moe"]) == (n_cpu_moe, n_cpu_moe > 0)


def test_a_context_for_which_there_is_no_room_is_refused(folder: Path) -> None:
    result = fit(folder, "--vram", "64MiB", "--ram", "64MiB", "-c", "9999999")
    assert result.exit_code == 1
    assert "not even the smallest file" in result.output.splitlines()[-1]
