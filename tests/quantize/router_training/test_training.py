"""Training rows: the loss falls, an expert that is left out gets tokens again, work is resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.layers import Expert
from franken_gguf.quantize.router_training.loss import measure
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.quantize.router_training.passages import TOKENS, Split
from franken_gguf.quantize.router_training.train import Trained, begin, train
from franken_gguf.quantize.router_training.training_state import load
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted

TEXT = np.random.default_rng(0).integers(3, 60, (4, TOKENS))
SPLIT = Split(TEXT, [TEXT])


@pytest.fixture
def mixture(tmp_path: Path) -> Mixture:
    make_checkpoint(tmp_path / "model", **SMALL)
    return Mixture(
        read_header(converted(tmp_path / "model", tmp_path / "out", ["F32"])[0]), 1 << 24
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.npz"


def trained(
    mixture: Mixture,
    rows: F32,
    steps: int,
    file: Path,
    report: Callable[[str, int, int, float], None] = lambda *_: None,
) -> Trained:
    return train(mixture, SPLIT, steps, begin(mixture, rows, [TEXT]), file, report)


def test_the_loss_on_what_is_trained_on_falls_with_the_steps(mixture: Mixture, file: Path) -> None:
    losses: list[float] = []
    found = trained(mixture, mixture.rows(), 8, file, lambda *report: losses.append(report[-1]))
    assert losses[7] < losses[0]
    assert found.gain > 0
    assert found.gain == pytest.approx(
        np.mean(found.before[0].losses) - np.mean(found.after[0].losses)
    )


def test_an_expert_that_is_left_out_gets_tokens_again(mixture: Mixture, file: Path) -> None:
    rows = mixture.rows()
    mixture.used = 1
    rows[:, 0] = rows[:, 1:].mean(axis=1)  # never the largest
    before = measure(mixture, rows, TEXT).loads[:, 0]
    after = trained(mixture, rows, 8, file).after[0].loads[:, 0]
    assert (before == 0).all()
    assert (after > 0.05).all()


@pytest.mark.parametrize(
    "work", ["training the router: step", "measuring the trained router: text"]
)
def test_an_interrupted_training_is_resumed_with_the_same_result(
    mixture: Mixture, file: Path, work: str
) -> None:
    def interrupt(done: str, *_: object) -> None:
        if done == work:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(mixture, mixture.rows(), 3, file, interrupt)
    state = load(file, mixture.rows(), [TEXT])
    assert state is not None
    assert state.done == (1 if "step" in work else 3)
    resumed = train(mixture, SPLIT, 3, state, file)
    whole = trained(mixture, mixture.rows(), 3, file)
    assert (resumed.rows == whole.rows).all()
    assert resumed.gain == whole.gain


def test_a_damaged_state_is_not_resumed(mixture: Mixture, file: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    rows, state = mixture.rows(), begin(mixture, mixture.rows(), [TEXT])
    for damaged in (replace(state, mean=rows + np.nan), replace(state, loads=rows), state):
        with pytest.raises(KeyboardInterrupt):
            train(mixture, SPLIT, 0, damaged, file, interrupt)
        assert (load(file, rows, [TEXT]) is None) == (damaged is not state)
    whole = file.read_bytes()
    assert load(file, rows, [TEXT, TEXT]) is None
    for content in (whole[: len(whole) // 2], b"", b"PK" * 99, whole.replace(b"rows", b"rats")):
        file.write_bytes(content)
        assert load(file, rows, [TEXT]) is None


def test_states_that_overflow_are_an_error_even_if_the_loss_does_not(mixture: Mixture) -> None:
    class Huge(Mixture):
        def expert(self, layer: int, number: int) -> Expert:
            one = super().expert(layer, number)
            return replace(one, down=one.down * np.float32(1e25))

    huge = Huge(read_header(mixture.path), 1 << 24)
    assert np.isfinite(measure(huge, huge.rows(), TEXT).losses).all()
    with pytest.raises(CheckpointError, match="computes NaN, Inf or zeros on the text"):
        begin(huge, huge.rows(), [TEXT])


def test_weights_that_are_not_kept_are_read_again_with_the_same_result(mixture: Mixture) -> None:
    forgetful = Mixture(read_header(mixture.path), 0)
    kept = measure(mixture, mixture.rows(), TEXT, with_gradient=True)
    again = measure(forgetful, mixture.rows(), TEXT, with_gradient=True)
    assert (kept.losses == again.losses).all()
    assert kept.gradient is not None
    assert again.gradient is not None
    assert (kept.gradient == again.gradient).all()
