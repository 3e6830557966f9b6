"""Second moments added up while a model runs: beside an importance matrix, and resumed like it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.second_moments import MomentSums, read_second_moments
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.matmul_inputs import MatmulInput
from franken_gguf.runner.imatrix.calibrate import Settings, Text, calibrate, text_chunks
from franken_gguf.runner.imatrix.collect import Collector, open_collector
from franken_gguf.runner.imatrix.input_moments import InputMoments
from franken_gguf.runner.imatrix.partial import Partial
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.imatrix_cases import write_text
from support.merges import run

ALONE = LoadOptions(n_threads=1, n_gpu_layers=0, flash_attention=False)
SETTINGS = Settings(chunk_size=64, hold_out=0)
Sums = dict[str, MomentSums]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moments")
    return converted(make_checkpoint(folder / "two", experts=8, **SMALL), folder / "q", ["F32"])[0]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


def imatrix(model: Path, text: Path, *words: object) -> Result:
    fixed = ("--text", text, "-c", "64", "--chunks", "3", "-t", "1", "-o", text.parent / "i.gguf")
    return run("imatrix", model, *fixed, *words)


def test_each_column_has_the_mean_square_of_the_importance_matrix(model: Path, text: Path) -> None:
    file = text.parent / "moments.gguf"
    made = imatrix(model, text, "--second-moments", file, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["second_moments"] == str(file)
    importances = read_imatrix(text.parent / "i.gguf")
    moments = read_second_moments(file)
    assert moments.chunks == 3
    reached = 0
    for name, weight in moments.weights.items():
        values = importances.values[name].reshape(weight.matrices, -1)
        for matrix in range(weight.matrices):
            squares = np.concatenate([group.diagonal() for group in weight.read(matrix)])
            if matrix in importances.unreached.get(name, ()):
                assert not squares.any()
            else:
                reached += 1
                assert squares == pytest.approx(values[matrix], rel=1e-4)
    assert moments.weights.keys() == importances.values.keys()
    assert reached > len(moments.weights)


def test_off_the_diagonal_are_the_means_of_products_of_two_columns(model: Path, text: Path) -> None:
    rows: list[np.ndarray] = []
    name = "blk.1.attn_output.weight"
    with open_collector(read_header(model), 64, ALONE, second_moments=True) as collector:
        moments = collector.moments
        assert moments
        add = moments.add

        def noted(entry: MatmulInput) -> None:
            if entry.weight == name:
                rows.append(entry.rows.copy())
            add(entry)

        moments.add = noted  # type: ignore[method-assign]  # to see what it is given
        for chunk in some_chunks(collector, text):
            collector.chunk_sums(chunk)
        inputs = np.concatenate(rows).reshape(-1, 64).astype(np.float64)
        found = moments.weights[name]
        assert found.counts.tolist() == [len(inputs)]
        assert found.sums[0, 0] == pytest.approx(inputs.T @ inputs, rel=1e-4, abs=1e-4)


def test_weights_with_the_same_input_share_their_sums(model: Path, text: Path) -> None:
    with open_collector(read_header(model), 64, ALONE, second_moments=True) as collector:
        for chunk in some_chunks(collector, text):
            collector.chunk_sums(chunk)
        assert collector.moments
        weights = collector.moments.weights
    layer = "blk.0"
    assert weights[f"{layer}.attn_q.weight"] is weights[f"{layer}.attn_v.weight"]
    assert weights[f"{layer}.ffn_gate_exps.weight"] is weights[f"{layer}.ffn_up_exps.weight"]
    assert weights[f"{layer}.attn_q.weight"] is not weights["blk.1.attn_q.weight"]
    assert weights[f"{layer}.attn_q.weight"].counts.tolist() == [3 * 64]
    assert weights[f"{layer}.ffn_up_exps.weight"].counts.sum() == 2 * 3 * 64


class Enough(BaseException):
    """Ends a run."""


def test_an_interrupted_run_resumes_from_what_was_saved_to_the_same_sums(
    model: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ("_SAVE_SECONDS", "_SAVE_SHARE"):
        monkeypatch.setattr(f"franken_gguf.runner.imatrix.partial.{setting}", 0)
    out = text.parent / "o.gguf"

    def stop_after_two(partial: Partial) -> None:
        if partial.done == 2:
            raise Enough

    evaluated: list[int] = []
    with open_collector(read_header(model), 64, ALONE, second_moments=True) as collector:
        moments = collector.moments
        assert moments
        chunks = some_chunks(collector, text)
        calibrate(collector, chunks, SETTINGS, text.parent / "whole.gguf")
        whole = copied(moments)
        with pytest.raises(Enough):
            calibrate(collector, chunks, SETTINGS, out, stop_after_two)
        calibrate(collector, chunks, SETTINGS, out, lambda partial: evaluated.append(partial.done))
        resumed = copied(moments)
    assert evaluated == [2, 3]
    assert resumed.keys() == whole.keys()
    for name, weight in whole.items():
        assert (resumed[name].sums == weight.sums).all()
        assert (resumed[name].counts == weight.counts).all()


def test_giving_every_token_to_every_expert_is_refused_beside_it(model: Path, text: Path) -> None:
    made = imatrix(model, text, "--second-moments", text.parent / "m.gguf", "--all-experts")
    assert made.exit_code == 2
    assert "--all-experts cannot be combined with --second-moments" in made.stderr


def test_an_existing_file_is_kept_without_overwrite(model: Path, text: Path) -> None:
    (text.parent / "m.gguf").write_text("mine")
    made = imatrix(model, text, "--second-moments", text.parent / "m.gguf")
    assert made.exit_code == 1 and "m.gguf: already exists" in made.stderr
    assert (text.parent / "m.gguf").read_text() == "mine"
    assert "choose another with --second-moments, or add --overwrite" in made.stderr
    assert not (text.parent / "i.gguf").exists()


def test_one_file_cannot_hold_both(model: Path, text: Path) -> None:
    made = imatrix(model, text, "--second-moments", text.parent / "i.gguf")
    assert made.exit_code == 2
    assert "-o and --second-moments name the same file, " in made.stderr
    assert not (text.parent / "i.gguf").exists()


def some_chunks(collector: Collector, text: Path) -> list[list[int]]:
    words = Text("t", text.read_text(encoding="utf-8"))
    return text_chunks([words], collector.engine.vocabulary, SETTINGS)[0][:3]


def copied(moments: InputMoments) -> Sums:
    return {
        name: MomentSums(weight.sums.copy(), weight.counts.copy())
        for name, weight in moments.weights.items()
    }
