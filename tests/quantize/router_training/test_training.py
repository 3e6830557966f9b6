"""Training rows: the loss falls, and an expert that is left out gets tokens again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.loss import measure
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.quantize.router_training.passages import TOKENS
from franken_gguf.quantize.router_training.train import train
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted

TEXT = np.random.default_rng(0).integers(3, 60, (4, TOKENS))


@pytest.fixture
def mixture(tmp_path: Path) -> Mixture:
    make_checkpoint(tmp_path / "model", **SMALL)
    return Mixture(
        read_header(converted(tmp_path / "model", tmp_path / "out", ["F32"])[0]), 1 << 24
    )


def test_the_loss_on_what_is_trained_on_falls_with_the_steps(mixture: Mixture) -> None:
    losses: list[float] = []
    trained = train(mixture, mixture.rows(), TEXT, [TEXT], 8, lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    assert trained.gain > 0
    assert trained.gain == pytest.approx(
        np.mean(trained.before[0].losses) - np.mean(trained.after[0].losses)
    )


def test_an_expert_that_is_left_out_gets_tokens_again(mixture: Mixture) -> None:
    rows = mixture.rows()
    mixture.used = 1
    rows[:, 0] = rows[:, 1:].mean(axis=1)  # never the largest
    before = measure(mixture, rows, TEXT).loads[:, 0]
    after = train(mixture, rows, TEXT, [TEXT], 8).after[0].loads[:, 0]
    assert (before == 0).all()
    assert (after > 0.05).all()


def test_weights_that_are_not_kept_are_read_again_with_the_same_result(mixture: Mixture) -> None:
    forgetful = Mixture(read_header(mixture.path), 0)
    kept = measure(mixture, mixture.rows(), TEXT, with_gradient=True)
    again = measure(forgetful, mixture.rows(), TEXT, with_gradient=True)
    assert (kept.losses == again.losses).all()
    assert kept.gradient is not None
    assert again.gradient is not None
    assert (kept.gradient == again.gradient).all()
