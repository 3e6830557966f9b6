"""Router rows from states: mergekit's means, and the regression behind gate_mode balanced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from franken_gguf.quantize.merge.router_regression import _PENALTY, fitted_rows
from franken_gguf.quantize.merge.router_rows import (
    balanced_rows,
    degenerate_layers,
    random_rows,
    rows_of_states,
    uniform_rows,
)

F32 = NDArray[np.float32]


def states(seed: int, prompts: int, tokens: int = 1, layers: int = 3, hidden: int = 8) -> list[F32]:
    rng = np.random.default_rng(seed)
    shape = (layers, tokens, hidden)
    return [rng.standard_normal(shape, np.float32) for _ in range(prompts)]


def test_hidden_rows_are_the_mean_of_the_positive_less_that_of_the_negative_prompts() -> None:
    positive, negative = states(0, 3), states(1, 2)
    rows = rows_of_states(positive, negative)
    wanted = np.mean(positive, axis=0)[:, 0] - np.mean(negative, axis=0)[:, 0]
    assert rows == pytest.approx(wanted / np.linalg.norm(wanted, axis=1, keepdims=True), abs=1e-6)
    alone = rows_of_states(positive[:1], [])
    assert alone == pytest.approx(
        positive[0][:, 0] / np.linalg.norm(positive[0][:, 0], axis=1, keepdims=True), abs=1e-6
    )


def test_prompts_that_leave_nothing_give_rows_of_zeros_and_no_nan() -> None:
    same = states(0, 1)
    assert (rows_of_states(same, same) == 0).all()


def test_rows_that_are_alike_are_told_from_those_that_are_not() -> None:
    apart = np.eye(4, dtype=np.float32)
    alike = np.ones((4, 4), np.float32) + 0.1 * apart
    assert degenerate_layers(np.stack([apart, alike, apart])) == [1]


def test_random_rows_are_spread_as_mergekits() -> None:
    assert np.std(random_rows(8, 4, 512)) == pytest.approx(1, rel=0.02)
    uniform = uniform_rows(8, 4, 512)
    assert 0.99 / np.sqrt(512) < np.abs(uniform).max() <= 1 / np.sqrt(512)
    assert np.std(uniform) == pytest.approx(1 / np.sqrt(3 * 512), rel=0.02)


@settings(max_examples=30, deadline=None)
@given(
    experts=st.integers(2, 6),
    each=st.integers(1, 12),
    hidden=st.integers(2, 40),
    common=st.floats(0, 20),
    seed=st.integers(0, 99),
)
def test_fitted_rows_are_where_the_loss_has_its_minimum(
    experts: int, each: int, hidden: int, common: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(experts), rng.integers(1, each + 1, experts))
    x = rng.standard_normal((len(owners), hidden)).astype(np.float32) + np.float32(common)
    rows = fitted_rows(x, owners, experts).astype(np.float64)
    scale = np.mean(np.sum(np.square(x.astype(np.float64)), axis=1))

    def loss(w: NDArray[np.float64]) -> float:
        scores = x @ w.T
        log_sum = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
        each_loss = log_sum - scores[np.arange(len(x)), owners]
        share = 1 / np.bincount(owners)[owners] / experts
        return float((share * each_loss).sum() + _PENALTY / 2 * scale * np.square(w).sum())

    least = loss(rows)
    assert least <= loss(np.zeros_like(rows))
    for _ in range(8):
        nudge = rng.standard_normal(rows.shape) * np.abs(rows).max() * 0.05
        assert least <= loss(rows + nudge) + 1e-3


def test_balanced_rows_part_what_has_a_large_part_in_common() -> None:
    """As the states of real models have: there the mean of all is much of each."""
    rng = np.random.default_rng(3)
    common, own = 20 * rng.standard_normal(64), rng.standard_normal((3, 64))
    prompts = [
        [
            (common + part + 0.5 * rng.standard_normal((2, 9, 64))).astype(np.float32)
            for _ in range(4)
        ]
        for part in own
    ]
    rows = balanced_rows(prompts)
    assert rows.shape == (2, 3, 64)
    for expert, each in enumerate(prompts):
        scores = np.einsum("lth,leh->lte", np.concatenate(each, axis=1), rows)
        assert (scores.argmax(axis=2) == expert).all()
