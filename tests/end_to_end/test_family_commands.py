"""compare, imatrix and convert --target-size, as typed, with a mixture that has a shared expert."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from support.family_checkpoints import make_family_checkpoint
from support.merges import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    make_family_checkpoint(folder / "tales", "qwen2_moe", num_hidden_layers=1)
    return folder


def done(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_comparison_shows_how_often_the_same_experts_are_chosen(folder: Path) -> None:
    done("convert", folder / "tales", "-q", "F16", "-q", "Q8_0", "-o", folder)
    small = ("-t", "1", "-n", "2", "--samples", "1", "--prompt", "Say hello.")
    table = done("compare", folder / "tales-F16.gguf", folder / "tales-Q8_0.gguf", *small)
    _, _, routing = table.partition("\nrouting\n")
    assert "same experts" in routing
    assert "most changed layers" in routing


def test_importances_and_the_best_file_of_a_size_know_the_shared_expert(folder: Path) -> None:
    (folder / "text.txt").write_text("The keeper said how good the moon and the light are. " * 40)
    quick = ("-t", "1", "-c", "64", "--chunks", "1", "--text", folder / "text.txt")
    done("imatrix", folder / "tales", *quick, "-o", folder / "tales.imatrix.gguf")
    importances = ("--imatrix", folder / "tales.imatrix.gguf", "--threads", "1")
    target = ("--target-size", "q4_k_m", "-o", folder, "--json")
    (output,) = json.loads(done("convert", folder / "tales", *target, *importances))["outputs"]
    types = {tensor.name: tensor.type.name for tensor in read_header(Path(output["path"])).tensors}
    assert types["blk.0.ffn_gate_inp_shexp.weight"] == "F32"
    assert types["blk.0.ffn_down_shexp.weight"] not in ("F32", "F16")
