"""A baseline's scores on disk: their rounding error, and other models compared with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from franken_gguf.runner.compare.measure.log_probs import (
    decode,
    encode,
    read_scores,
    row_at,
    write_scores,
)
from franken_gguf.runner.compare.results.metrics import kl_divergence, log_softmax
from franken_gguf.runner.engine.backend import EngineError

logits = arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(2, 40)),
    elements=st.floats(-60, 60, width=32),
)


@given(logits)
def test_within_16_of_the_top_token_the_error_is_at_most_half_a_step(rows: np.ndarray) -> None:
    log_probs = log_softmax(rows.astype(np.float64)).astype(np.float32)
    stored = encode(log_probs)
    found = decode(stored)
    kept = np.isfinite(found)
    assert np.abs(found - log_probs)[kept].max() <= 0.000123 + 1e-5
    assert (
        log_probs[~kept]
        <= log_probs.max(axis=1).repeat(rows.shape[1]).reshape(rows.shape)[~kept] - 15.99
    ).all()
    assert kept.any(axis=1).all()


@given(logits, st.integers(0, 2**32))
def test_scores_against_stored_rows_are_those_of_the_definitions(
    tmp_path_factory: pytest.TempPathFactory, base: np.ndarray, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    other = (base + draw.normal(0, 1, base.shape)).astype(np.float32)
    true = draw.integers(0, base.shape[1], len(base)).tolist()
    path = tmp_path_factory.getbasetemp() / "scores"
    with path.open("wb") as file:
        own = write_scores(base, true, file)
    with path.open("rb") as file:
        found = read_scores(other, true, file)
        assert file.read() == b""
    exact, theirs = (log_softmax(rows.astype(np.float64)) for rows in (base, other))
    places = np.arange(len(base)), true
    assert own.nll == pytest.approx(-exact[places], abs=1e-4)
    assert found.nll == pytest.approx(-theirs[places], abs=1e-4)
    assert found.kld == pytest.approx(kl_divergence(exact, theirs), abs=2e-3)
    assert own.same_top.all() and not own.kld.any()
    assert row_at(path, len(base) - 1, base.shape[1])[true[-1]] in (
        pytest.approx(exact[-1, true[-1]], abs=1e-3),
        -np.inf,
    )


def test_the_same_logits_have_no_divergence_and_the_same_top(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(0, 4, (40, 1000)).astype(np.float32)
    true = list(range(40))
    with (tmp_path / "scores").open("wb") as file:
        own = write_scores(rows, true, file)
    with (tmp_path / "scores").open("rb") as file:
        found = read_scores(rows, true, file)
    assert (found.nll == own.nll).all() and found.same_top.all()
    assert np.abs(found.kld).max() < 1e-4


def test_an_incomplete_file_is_named(tmp_path: Path) -> None:
    rows = np.zeros((3, 10), np.float32)
    with (tmp_path / "scores").open("wb") as file:
        write_scores(rows[:2], [0, 0], file)
    with (
        (tmp_path / "scores").open("rb") as file,
        pytest.raises(EngineError, match="scores are incomplete; delete the file"),
    ):
        read_scores(rows, [0, 0, 0], file)
