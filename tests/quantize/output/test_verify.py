"""Verifying: a sound file passes, and a damaged one is named with its tensor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.output.verify import expected_error, verify
from franken_gguf.quantize.output.worker_memory import Share
from franken_gguf.quantize.tensor_types.type_presets import LLAMA_PRESETS, find_preset
from franken_gguf.runner.cli import main
from support.checkpoints import make_checkpoint

SHARE = Share(1, 1 << 20)


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


UNWEIGHTED = [name for name, preset in LLAMA_PRESETS.items() if not preset.without_imatrix]


@pytest.mark.parametrize("name", UNWEIGHTED)
def test_every_type_is_as_near_to_its_source_as_it_says(tmp_path: Path, name: str) -> None:
    source = open_source(make_checkpoint(tmp_path / "model", dtype="F32"))
    output = plan_output(source, tmp_path / "x.gguf", find_preset(name))
    convert(source, [output])
    checks = verify(source, [output.path], SHARE)
    assert [check.name for check in checks] == [tensor.name for tensor in source.tensors]
    for check in checks:
        assert check.is_sound
        if check.type.name == "F32":
            assert (check.rmse, check.largest) == (0, 0)
        else:
            assert 0.5 < check.ratio < 1.5


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "F32"])
def test_a_types_usual_error_is_smaller_than_its_weights_and_its_largest_is_larger(
    name: str,
) -> None:
    rmse, largest = expected_error(name)
    assert 0 < rmse < 1
    assert largest > rmse


def test_the_error_is_the_root_mean_square_over_that_of_the_weights(tmp_path: Path) -> None:
    source = open_source(make_checkpoint(tmp_path / "model", dtype="F32"))
    output = plan_output(source, tmp_path / "x.gguf", find_preset("Q4_0"))
    convert(source, [output])
    (check,) = [c for c in verify(source, [output.path], SHARE) if c.name == "token_embd.weight"]
    (tensor,) = [t for t in source.tensors if t.name == "token_embd.weight"]
    weights = source.read(tensor, tensor.pieces[0], 0, tensor.rows).view(np.float32)
    codec = FORMATS["Q4_0"]
    error = (weights - codec.dequantize(codec.quantize(weights, None))).astype(float)
    scale = np.sqrt(np.mean(np.square(weights, dtype=float)))
    assert check.rmse == pytest.approx(np.sqrt(np.mean(error**2)) / scale, rel=1e-4)
    assert check.largest == pytest.approx(np.abs(error).max() / scale, rel=1e-4)


def test_convert_reads_back_what_it_wrote_and_says_so(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    words = ("convert", checkpoint, "-q", "Q4_K_M", "-o", tmp_path / "x.gguf")
    result = franken(*words, "--verify")
    assert result.exit_code == 0, result.output
    tensors = len(read_header(tmp_path / "x.gguf").tensors)
    assert f"{tensors} of {tensors} tensors are as close" in result.stdout
    assert "checking" in result.stderr
    document = json.loads(franken(*words, "--verify", "--overwrite", "--json").stdout)
    assert len(document["outputs"][0]["checks"]) == tensors


def test_inspect_names_the_tensor_whose_bytes_were_damaged(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    path = tmp_path / "x.gguf"
    franken("convert", checkpoint, "-q", "Q8_0", "-o", path)
    sound = franken("inspect", path, "--verify", checkpoint)
    assert (sound.exit_code, sound.stderr) == (0, ""), sound.output
    data = bytearray(path.read_bytes())
    (victim,) = [t for t in read_header(path).tensors if t.name == "blk.1.ffn_up_exps.weight"]
    middle = slice(victim.offset, victim.offset + victim.nbytes)
    data[middle] = np.random.default_rng(0).bytes(victim.nbytes)
    path.write_bytes(data)
    damaged = franken("inspect", path, "--verify", checkpoint)
    assert damaged.exit_code == 1
    assert "blk.1.ffn_up_exps.weight" in damaged.stdout.splitlines()[4]
    assert "tensor 'blk.1.ffn_up_exps.weight' has" in damaged.stderr
    assert damaged.stderr.count("\n") == 1


def test_a_file_of_another_model_is_refused_by_the_first_tensor_that_differs(
    tmp_path: Path,
) -> None:
    small = make_checkpoint(tmp_path / "small", experts=2)
    large = make_checkpoint(tmp_path / "large", experts=4)
    franken("convert", small, "-q", "F16", "-o", tmp_path / "x.gguf")
    result = franken("inspect", tmp_path / "x.gguf", "--verify", large)
    assert result.exit_code == 1
    assert "tensor 'blk.0.ffn_down_exps.weight' is [2, " in result.stderr
    dense = make_checkpoint(tmp_path / "dense", layout="dense")
    result = franken("inspect", tmp_path / "x.gguf", "--verify", dense)
    assert "lacks the source's tensor 'blk.0.ffn_down.weight'" in result.stderr
