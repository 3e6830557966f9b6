"""The gradient by which routers are trained, compared with finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.layers import Expert, softmax
from franken_gguf.quantize.router_training.loss import measure
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.quantize.router_training.mixture_layer import Attention, FeedForward
from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.family_checkpoints import make_family_checkpoint

Array = Any
STEP = 1e-5
MAKERS: dict[str, Callable[[Path], object]] = {
    "mixtral": lambda folder: make_checkpoint(folder, **SMALL),
    "qwen2_moe": lambda folder: make_family_checkpoint(folder, "qwen2_moe"),
    "qwen3_moe": lambda folder: make_family_checkpoint(folder, "qwen3_moe"),
}


class Precise(Mixture):
    """A mixture computed in float64."""

    def matrix(self, name: str) -> Array:
        return super().matrix(name).astype(np.float64)

    def expert(self, layer: int, number: int) -> Expert:
        one = super().expert(layer, number)
        return Expert(*(each.astype(np.float64) for each in (one.gate, one.up, one.down)))


@pytest.fixture(params=MAKERS)
def mixture(request: pytest.FixtureRequest, tmp_path: Path) -> Precise:
    MAKERS[request.param](tmp_path / "model")
    (file,) = converted(tmp_path / "model", tmp_path / "out", ["F32"])
    return Precise(read_header(file), 1 << 24)


def none(mixture: Mixture) -> Array:
    return np.zeros(mixture.experts)


def slope(function: Callable[[Array], Any], at: Array, direction: Array) -> float:
    return float((function(at + STEP * direction) - function(at - STEP * direction)) / (2 * STEP))


def test_the_rows_gradient_is_exact_where_every_expert_works(mixture: Precise) -> None:
    mixture.used = mixture.experts
    random = np.random.default_rng(0)
    tokens = random.integers(3, 200, (2, 9))
    rows = mixture.rows().astype(np.float64)
    gradient = measure(mixture, rows, tokens, with_gradient=True).gradient
    assert gradient is not None
    for layer in range(mixture.layers):
        direction = np.zeros_like(rows)
        direction[layer] = random.standard_normal(rows[layer].shape)
        found = slope(lambda x: measure(mixture, x, tokens).losses.mean(), rows, direction)
        assert found == pytest.approx(float((gradient * direction).sum()), rel=1e-5, abs=1e-10)


def test_the_states_gradient_is_exact_for_the_experts_that_are_chosen(mixture: Precise) -> None:
    random = np.random.default_rng(1)
    states, direction, read = (random.standard_normal((2, 5, mixture.hidden)) for _ in range(3))
    rows, rope = mixture.rows()[0].astype(np.float64), mixture.rope(5)

    def layer(states: Array) -> tuple[Attention, FeedForward]:
        attention = Attention(mixture, 0, rope, states)
        return attention, FeedForward(mixture, 0, rows, attention.output)

    found = slope(lambda x: (layer(x)[1].output() * read).sum(), states, direction)
    attention, experts = layer(states)
    gradient = attention.backward(experts.backward(read, none(mixture))[0])
    assert found == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_an_expert_that_was_not_chosen_learns_what_it_would_have_done(mixture: Precise) -> None:
    """The output as if every expert worked with its softmax probability, see loss.py."""
    random = np.random.default_rng(2)
    states, read = (random.standard_normal((1, 7, mixture.hidden)) for _ in range(2))
    rows = mixture.rows()[0].astype(np.float64)
    direction = random.standard_normal(rows.shape)
    _, gradient = FeedForward(mixture, 0, rows, states).backward(read, none(mixture))
    mixture.used, mixture.normalized = mixture.experts, True
    found = slope(
        lambda x: (FeedForward(mixture, 0, x, states).output() * read).sum(), rows, direction
    )
    assert found == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_a_favour_is_worth_as_much_for_each_token_that_an_expert_gets(mixture: Precise) -> None:
    random = np.random.default_rng(3)
    states, read = (random.standard_normal((1, 7, mixture.hidden)) for _ in range(2))
    rows = mixture.rows()[0].astype(np.float64)
    direction, favours = random.standard_normal(rows.shape), random.random(mixture.experts)
    layer = FeedForward(mixture, 0, rows, states)
    gradient = layer.backward(read, favours)[1] - layer.backward(read, none(mixture))[1]

    def worth(rows: Array) -> float:
        shares = softmax(layer.x @ rows.T).mean(axis=0)
        return float(-(shares @ favours))

    assert slope(worth, rows, direction) == pytest.approx(float((gradient * direction).sum()))
