"""Conversions whose codes are chosen under second moments: what changes, and what must not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from franken_gguf.quantize.blocks.code_refinement import REFINABLE
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import ImatrixError
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.estimate import estimate
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.output.row_converter import Progress
from franken_gguf.quantize.tensor_types.second_moments import read_second_moments
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from support.checkpoints import make_checkpoint
from support.codes import without_codes
from support.interrupted import Interrupted
from support.second_moments import write_made_up

KEYS = {"quantize.second_moments.file", "quantize.second_moments.chunks_count"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(make_checkpoint(tmp_path_factory.mktemp("model") / "model"))


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Path:
    return write_made_up(tmp_path_factory.mktemp("moments") / "tales.gguf", source)


def planned(source: Source, path: Path, moments: Path | None, preset: str = "Q4_K_M") -> Output:
    known = read_second_moments(moments) if moments else None
    return plan_output(source, path, find_preset(preset), second_moments=known)


@pytest.mark.parametrize("preset", ["Q4_K_M", "IQ3_M"])
def test_only_codes_and_two_keys_differ_from_the_file_of_llama_quantize(
    preset: str, source: Source, moments: Path, tmp_path: Path
) -> None:
    outputs = [
        planned(source, tmp_path / "plain.gguf", None, preset),
        planned(source, tmp_path / "chosen.gguf", moments, preset),
    ]
    for output in outputs:
        convert(source, [output], check=True)
    plain, chosen = (GGUFReader(output.path) for output in outputs)
    assert set(chosen.fields) - set(plain.fields) == KEYS
    headers = [read_header(output.path).metadata for output in outputs]
    assert headers[1]["quantize.second_moments.file"].data == "tales.gguf"
    assert {k: v for k, v in headers[1].items() if k not in KEYS} == headers[0]
    known, changed = read_second_moments(moments).weights, 0
    for before, after in zip(plain.tensors, chosen.tensors, strict=True):
        kind = before.tensor_type.name
        assert (before.name, kind) == (after.name, after.tensor_type.name)
        if kind in REFINABLE and before.name in known:
            changed += not np.array_equal(before.data, after.data)
            both = (t.data.reshape(-1, t.data.shape[-1]) for t in (before, after))
            scales = [without_codes(kind, rows) for rows in both]
            assert np.array_equal(scales[0], scales[1]), before.name
        else:
            assert np.array_equal(before.data, after.data), before.name
    assert changed == sum(bool(tensor.moments) for tensor in outputs[1].tensors) > 0
    assert [output.refined_share for output in outputs] == [0, 1]


def test_a_ladder_and_several_processes_give_the_bytes_of_one_at_a_time(
    source: Source, moments: Path, tmp_path: Path
) -> None:
    presets = ("Q4_K_M", "Q2_K")
    for folder, threads in (("alone", 1), ("ladder", 2)):
        (tmp_path / folder).mkdir()
        outputs = [planned(source, tmp_path / folder / f"{p}.gguf", moments, p) for p in presets]
        for some in [outputs] if threads == 2 else [[output] for output in outputs]:
            convert(source, some, threads=threads)
    for preset in presets:
        alone, ladder = (tmp_path / folder / f"{preset}.gguf" for folder in ("alone", "ladder"))
        assert alone.read_bytes() == ladder.read_bytes()


def test_an_interrupted_conversion_resumes_but_not_under_other_moments(
    source: Source, moments: Path, tmp_path: Path
) -> None:
    whole = planned(source, tmp_path / "whole.gguf", moments)
    convert(source, [whole])
    output = planned(source, tmp_path / "out.gguf", moments)

    def stop(progress: Progress) -> None:
        if progress.job.index == 8:
            raise Interrupted

    for _ in range(2):
        with pytest.raises(Interrupted):
            convert(source, [output], save_seconds=0, report=stop)
    notices: list[str] = []
    convert(source, [output], notify=notices.append)
    assert len(notices) == 1 and "resuming" in notices[0]
    assert output.path.read_bytes() == whole.path.read_bytes()

    with pytest.raises(Interrupted):
        convert(source, [output], save_seconds=0, report=stop, overwrite=True)
    (tmp_path / "other").mkdir()
    other = write_made_up(tmp_path / "other" / "tales.gguf", source, seed=9)
    notices.clear()
    convert(source, [planned(source, output.path, other)], notify=notices.append, overwrite=True)
    assert any("other options" in notice for notice in notices)
    assert output.path.read_bytes() != whole.path.read_bytes()


def test_moments_that_were_written_again_during_the_work_end_it_and_replace_nothing(
    source: Source, moments: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "tales.gguf"
    copy.write_bytes(moments.read_bytes())
    output = planned(source, tmp_path / "out.gguf", copy)
    os.utime(copy, ns=(1, 1))
    with pytest.raises(ImatrixError, match=r"tales\.gguf: has changed since this run began; rerun"):
        convert(source, [output])
    assert not output.path.exists()


def test_blocks_that_are_copied_keep_their_codes(
    source: Source, moments: Path, tmp_path: Path
) -> None:
    first = planned(source, tmp_path / "first.gguf", None)
    convert(source, [first])
    again = open_source(first.path)
    output = plan_output(
        *(again, tmp_path / "again.gguf", find_preset("Q4_K_M")),
        second_moments=read_second_moments(moments),
        allow_requantize=True,
    )
    assert output.refined_share == 0
    convert(again, [output])
    tensors = [GGUFReader(path).tensors for path in (first.path, output.path)]
    for before, after in zip(*tensors, strict=True):
        assert np.array_equal(before.data, after.data)


def test_the_expected_time_counts_the_choice(source: Source, moments: Path, tmp_path: Path) -> None:
    plain, chosen = (
        estimate(source, [planned(source, tmp_path / "a.gguf", file)], 1, 512 << 20)
        for file in (None, moments)
    )
    assert chosen.memory_bytes > plain.memory_bytes
    assert chosen.seconds > plain.seconds
