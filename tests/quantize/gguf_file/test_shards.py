"""Models in several files: cut, named and marked as gguf-split does, and loaded by llama.cpp."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import GGUFError, RecipeError
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.shards import shard_counts, shard_path
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.cli import main
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.sampling.settings import Sampling
from support.checkpoints import make_checkpoint


def split(checkpoint: Path, path: Path, limit: int | None) -> Output:
    source = open_source(checkpoint)
    output = plan_output(source, path, find_preset("Q8_0"), split_max_size=limit)
    convert(source, [output])
    return output


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1024, 5000))
def test_shards_are_as_full_as_the_limit_allows(sizes: list[int], limit: int) -> None:
    names = [str(n) for n in range(len(sizes))]
    counts = shard_counts(names, sizes, limit)
    assert sum(counts) == len(sizes)
    padded = [-(-size // 32) * 32 for size in sizes]
    start = 0
    for count in counts:
        used = sum(padded[start : start + count])
        assert 0 < used <= limit
        if start + count < len(padded):
            assert used + padded[start + count] > limit
        start += count


def test_a_tensor_larger_than_the_limit_is_named_with_what_it_needs() -> None:
    with pytest.raises(RecipeError, match=r"'big' is 2,016 bytes, more than --split-max-size"):
        shard_counts(["small", "big"], [10, 2000], 1000)


def test_names_are_those_that_llama_cpp_looks_for() -> None:
    assert shard_path(Path("a/tales.gguf"), 1, 12) == Path("a/tales-00002-of-00012.gguf")
    assert shard_path(Path("tales.v2"), 0, 2) == Path("tales.v2-00001-of-00002.gguf")
    assert shard_path(Path("a/tales.gguf"), 0, 1) == Path("a/tales.gguf")


def test_the_shards_hold_the_tensors_of_the_whole_and_the_keys_of_gguf_split(
    tmp_path: Path,
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    whole = read_header(split(checkpoint, tmp_path / "whole.gguf", None).path)
    output = split(checkpoint, tmp_path / "parts.gguf", 2_000_000)
    headers = [read_header(shard.path) for shard in output.shards]
    count = len(headers)
    assert count > 2
    assert [header.path.name for header in headers] == [
        f"parts-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)
    ]
    first, *others = headers
    assert list(first.metadata)[:-3] == list(whole.metadata)
    for number, header in enumerate(headers):
        keys = ["split.no", "split.tensors.count", "split.count"]
        assert list(header.metadata)[-3:] == keys
        values = [header.metadata[key].data for key in keys]
        assert values == [number, len(whole.tensors), count]
        assert all(tensor.nbytes <= 2_000_000 for tensor in header.tensors)
    assert all(len(header.metadata) == 3 for header in others)
    pairs = [(header.path, tensor) for header in headers for tensor in header.tensors]
    assert [tensor.name for _, tensor in pairs] == [tensor.name for tensor in whole.tensors]
    data = whole.path.read_bytes()
    for (path, part), tensor in zip(pairs, whole.tensors, strict=True):
        there = data[tensor.offset : tensor.offset + tensor.nbytes]
        assert path.read_bytes()[part.offset : part.offset + part.nbytes] == there
    assert [shard.path.stat().st_size for shard in output.shards] == [
        shard.nbytes for shard in output.shards
    ]


def test_a_split_model_is_read_as_the_whole_it_is(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    output = split(checkpoint, tmp_path / "tales-Q8_0.gguf", 2_000_000)
    whole = split(checkpoint, tmp_path / "whole.gguf", None)
    first = output.shards[0].path
    source = open_source(first)
    assert source.name == "tales-Q8_0"
    assert source.files == {shard.path for shard in output.shards}
    again = plan_output(source, tmp_path / "again.gguf", find_preset("Q8_0"))
    convert(source, [again])
    assert again.path.read_bytes() == whole.path.read_bytes()
    result = CliRunner().invoke(main, ["inspect", str(first), "--verify", str(checkpoint)])
    assert result.exit_code == 0, result.output
    document = json.loads(CliRunner().invoke(main, ["inspect", str(first), "--json"]).stdout)
    assert document["file_bytes"] == output.nbytes


def test_parts_that_are_missing_or_stand_for_each_other_are_named(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    output = split(checkpoint, tmp_path / "tales.gguf", 2_000_000)
    first, second, *_ = (shard.path for shard in output.shards)
    with pytest.raises(GGUFError, match=r"is a part of a split model; give the first"):
        open_source(second)
    second.write_bytes(first.read_bytes())
    with pytest.raises(GGUFError, match=r"is in more than one part"):
        open_source(first)
    second.unlink()
    with pytest.raises(GGUFError, match=re.escape(f"{second.name}: no such file")):
        open_source(first)


def test_llama_cpp_says_the_same_from_the_shards_as_from_the_whole(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    answers = []
    for limit in (None, 2_000_000):
        output = split(checkpoint, tmp_path / f"{limit}.gguf", limit)
        header = read_header(output.shards[0].path)
        with Engine(header, LoadOptions(n_ctx=64, n_threads=1)) as engine:
            answers.append(list(engine.generate([1, 2, 3], Sampling(temperature=0), 8)))
    assert answers[0] == answers[1]
    assert len(answers[0]) > 0
