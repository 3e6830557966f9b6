"""Making an importance matrix: chunks, experts, resuming, and everything that can go wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tensor_types.imatrix_file import ImatrixSums, WeightSums
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.imatrix.calibrate import Settings, Text, calibrate, locked, text_chunks
from franken_gguf.runner.imatrix.chunks import cut, interleaved, split_off
from franken_gguf.runner.imatrix.collect import open_collector
from franken_gguf.runner.imatrix.expert_shares import expert_shares, rare_experts
from franken_gguf.runner.imatrix.partial import Partial
from franken_gguf.runner.imatrix.texts import built_in_text, plainly
from support.cases import SMALL, change
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.disks import mounted
from support.imatrix_cases import tensors_of, write_text
from support.merges import run

ALONE = LoadOptions(n_threads=1, n_gpu_layers=0, flash_attention=False)
SETTINGS = Settings(chunk_size=64, hold_out=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imatrix")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A small mixture that routes to 2 of 8 experts."""
    return converted(make_checkpoint(folder / "two", experts=8, **SMALL), folder / "q", ["F32"])[0]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def test_chunks_are_whole_and_begin_with_bos_in_place_of_their_first_token() -> None:
    assert cut([1, 2, 3, 4, 5, 6, 7], 3, None) == [[1, 2, 3], [4, 5, 6]]
    assert cut([1, 2, 3, 4, 5, 6, 7], 3, 9) == [[9, 2, 3], [9, 5, 6]]


def test_several_texts_take_turns_and_every_nth_chunk_is_held_out() -> None:
    assert interleaved([[[1], [2], [3]], [[10]], [[20], [21]]]) == [
        [1], [10], [20], [2], [21], [3],
    ]  # fmt: skip
    assert split_off([[1], [2], [3], [4], [5]], 2) == ([[1], [3], [5]], [[2], [4]])
    assert split_off([[1], [2]], 0) == ([[1], [2]], [])


def test_a_prior_is_so_many_tokens_of_the_mean_over_the_experts() -> None:
    experts = WeightSums(np.array([[6.0, 2.0], [0.0, 0.0]]), np.array([4, 0]))
    dense = WeightSums(np.array([[5.0, 5.0]]), np.array([4]))
    made = ImatrixSums({"e": experts, "d": dense}, 1, 4, ()).with_prior(2)
    assert made.weights["e"].counts.tolist() == [6, 2]
    assert made.weights["e"].sums.tolist() == [[9.0, 3.0], [3.0, 1.0]]
    assert made.weights["d"] is dense


def test_rare_experts_are_listed_with_the_fewest_tokens_first() -> None:
    def experts(*counts: int) -> WeightSums:
        return WeightSums(np.zeros((len(counts), 1)), np.array(counts))

    weights = {"blk.1.a": experts(9, 3), "blk.0.a": experts(2, 8), "blk.0.b": experts(20)}
    layers = expert_shares(weights)
    assert [layer.layer for layer in layers] == [0, 1]
    assert layers[0].shares.tolist() == [0.2, 0.8]
    assert rare_experts(layers, 9) == [(0, 0, 2), (1, 1, 3), (0, 1, 8)]


def test_all_experts_get_every_token_while_the_states_stay_those_of_the_chosen_ones(
    folder: Path, model: Path
) -> None:
    eight = make_checkpoint(folder / "eight", experts=8, **SMALL)
    change(eight, "config.json", num_experts_per_tok=8)
    (forced,) = converted(eight, folder / "q8", ["F32"])
    words = write_text(folder).read_text(encoding="utf-8")
    found = {}
    for name, path, all_experts in (
        ("plain", model, False), ("all", model, True), ("forced", forced, False),
    ):  # fmt: skip
        header = read_header(path)
        with open_collector(header, 64, ALONE, all_experts=all_experts) as collector:
            vocabulary = collector.engine.vocabulary
            chunks, _ = text_chunks([Text("t", words)], vocabulary, SETTINGS)
            found[name] = [collector.chunk_sums(chunk) for chunk in chunks[:2]]
    assert [len(sums) for sums in found.values()] == [2, 2, 2]
    # Nothing comes before the first layer: there it must equal a model that uses all experts.
    for mine, theirs in zip(found["all"], found["forced"], strict=True):
        for projection in ("gate", "up", "down"):
            name = f"blk.0.ffn_{projection}_exps.weight"
            assert mine[name].counts.tolist() == theirs[name].counts.tolist() == [64] * 8
            assert mine[name].sums == pytest.approx(theirs[name].sums, rel=1e-4)
    for mine, theirs in zip(found["all"], found["plain"], strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            if "_exps" not in name:
                assert (mine[name].sums == theirs[name].sums).all()


def test_it_ends_once_every_expert_has_its_tokens(model: Path, text: Path) -> None:
    made = run(
        "imatrix", model, "--text", text, "-c", "64", "-t", "1", "--hold-out", "5",
        "--min-tokens-per-expert", "4", "-o", text.parent / "o.gguf", "--json",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    result = json.loads(made.stdout)
    fewest = min(min(layer["tokens"]) for layer in result["experts"])
    assert fewest >= 4
    assert 1 <= result["chunks"] < result["chunks_available"]
    assert result["chunks_held_out"] >= 1
    assert result["rare_experts"] == []
    assert result["weights"] == len(tensors_of(text.parent / "o.gguf")) // 2


class Enough(BaseException):
    """Ends a run."""


def test_an_interrupted_run_resumes_to_the_same_sums(model: Path, text: Path) -> None:
    out = text.parent / "o.gguf"
    words = Text("t", text.read_text(encoding="utf-8"))
    evaluated = []

    def stop_after_two(partial: Partial) -> None:
        if partial.done == 2:
            raise Enough

    with open_collector(read_header(model), 64, ALONE) as collector:
        chunks, _ = text_chunks([words], collector.engine.vocabulary, SETTINGS)
        whole = calibrate(collector, chunks, SETTINGS, text.parent / "whole.gguf")
        with pytest.raises(Enough):
            calibrate(collector, chunks, SETTINGS, out, stop_after_two)
        resumed = calibrate(
            collector, chunks, SETTINGS, out, lambda partial: evaluated.append(partial.done)
        )
        kept: list[int] = []
        fewer = calibrate(collector, chunks[:4], SETTINGS, text.parent / "fewer.gguf")
        fewer.save()
        more_of = text.parent / "fewer.gguf"
        calibrate(
            collector, chunks[:6], SETTINGS, more_of, lambda partial: kept.append(partial.done)
        )
        other = calibrate(collector, chunks[1:], SETTINGS, out)
    assert evaluated == list(range(2, len(chunks) + 1))
    assert kept == [4, 5, 6], "more chunks of the same text resume from fewer"
    assert other.done == len(chunks) - 1, "another text does not resume from it"
    assert list(resumed.weights) == list(whole.weights)
    for name, weight in whole.weights.items():
        assert (resumed.weights[name].sums == weight.sums).all()
        assert (resumed.weights[name].counts == weight.counts).all()


def test_a_damaged_partial_file_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "o.gguf.part"
    for damaged in (b"", b"PK\x03\x04 no archive", b"\x93NUMPY"):
        path.write_bytes(damaged)
        assert Partial(path, "key", []).done == 0


def test_nothing_but_the_output_is_left(model: Path, text: Path) -> None:
    before = set(text.parent.iterdir())
    made = run("imatrix", model, "--text", text, "-c", "64", "-o", text.parent / "o.gguf")
    assert made.exit_code == 0, made.stderr
    assert set(text.parent.iterdir()) - before == {text.parent / "o.gguf"}
    again = run("imatrix", model, "--text", text, "-c", "64", "-o", text.parent / "o.gguf")
    assert again.exit_code == 1
    assert "already exists; choose another with -o, or add --overwrite" in again.stderr


def test_a_checkpoint_is_converted_to_a_temporary_file(
    folder: Path, model: Path, text: Path
) -> None:
    for number, source in enumerate((model, folder / "two")):
        out = text.parent / f"{number}.gguf"
        made = run("imatrix", source, "--text", text, "-c", "64", "--base-type", "F32", "-o", out)
        assert made.exit_code == 0, made.stderr
    assert (text.parent / "0.gguf").read_bytes() == (text.parent / "1.gguf").read_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"abc\0def", "is a binary file"),
        ("Grüße".encode("latin1"), "is not UTF-8: byte 2 is 0xfc; convert it"),
        (b"Too short.", "tokens long, a chunk 64; give a longer text, or a smaller -c"),
    ],
)
def test_an_unusable_text_is_refused(
    model: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    out = tmp_path / "o.gguf"
    result = run("imatrix", model, "--text", path, "-c", "64", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {path}: ")
    assert reason in result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_all_experts_of_a_dense_model_are_refused(tmp_path: Path, text: Path) -> None:
    dense = make_checkpoint(tmp_path / "dense", layout="dense", **SMALL)
    (path,) = converted(dense, tmp_path / "q", ["F32"])
    out = text.parent / "o.gguf"
    result = run("imatrix", path, "--text", text, "-c", "64", "--all-experts", "-o", out)
    assert result.exit_code == 1
    assert "--all-experts needs a mixture" in result.stderr


def test_two_runs_do_not_write_the_same_output(model: Path, text: Path) -> None:
    out = text.parent / "o.gguf"
    with locked(out):
        result = run("imatrix", model, "--text", text, "-c", "64", "-o", out)
    assert result.exit_code == 1
    assert "another imatrix is writing it" in result.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc to write to")
def test_a_folder_in_which_no_file_can_be_created_is_reported_with_the_systems_reason(
    model: Path, text: Path
) -> None:
    result = run("imatrix", model, "--text", text, "-c", "64", "-o", "/proc/o.gguf")
    assert result.exit_code == 1
    # The system's reason differs for root and for other users.
    assert re.fullmatch(
        r"Error: /proc: cannot be written to "
        r"\((No such file or directory|Permission denied)\); choose another with -o\n",
        result.stderr,
    )


def test_a_full_disk_is_reported_and_leaves_no_half_file(
    model: Path, text: Path, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "size=8k") as disk:
        out = disk / "o.gguf"
        result = run("imatrix", model, "--text", text, "-c", "64", "--chunks", "2", "-o", out)
        assert not out.exists()
        assert list(disk.glob(".*.part")) == []
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {disk}/o.gguf")
    assert "No space left on device" in result.stderr


def test_our_own_text_has_dialogues_code_and_many_languages() -> None:
    text = built_in_text(plainly)
    assert 200_000 < len(text.encode()) < 400_000
    for part in ("User: ", "Assistant: ", "def ", "| item | from |", "Uhr", "从前", "駅", "Каждое"):
        assert part in text
