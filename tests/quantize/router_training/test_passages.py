"""Texts cut into passages: all parts of all texts are trained on, and others are held out."""

from __future__ import annotations

import numpy as np
import pytest

from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.router_training.passages import TOKENS, TokenText, split


def numbered(name: str, passages: int, start: int = 0) -> TokenText:
    """A text whose tokens are the numbers of their passages."""
    return TokenText(name, np.repeat(np.arange(start, start + passages), TOKENS).tolist())


def test_what_is_held_out_is_not_trained_on() -> None:
    found = split([numbered("a", 100), numbered("b", 40, 1000)], None, 10_000)
    training = set(found.training[:, 1].tolist())
    held = [set(of[:, 1].tolist()) for of in found.held_out]
    assert [len(of) for of in held] == [8, 8]
    assert training.isdisjoint(held[0] | held[1])
    assert len(training | held[0] | held[1]) == 140


def test_the_texts_take_turns_and_a_short_one_starts_again() -> None:
    training = split([numbered("a", 100), numbered("b", 8, 1000)], None, 60).training[:, 1]
    assert (training[0::2] < 100).all()
    assert (training[1::2] >= 1000).all()
    assert len(training) == 2 * 30
    assert sorted(set(training[1::2])) == sorted(training[1::2][:6])


def test_few_passages_are_spread_over_a_whole_text() -> None:
    training = split([numbered("a", 1000)], None, 10).training[:, 1]
    assert len(training) == 10
    assert np.diff(training) == pytest.approx(100, abs=3)


def test_every_passage_starts_with_bos_if_the_model_has_one() -> None:
    found = split([numbered("a", 50)], 7, 20)
    assert set(found.training[:, 0]) == set(found.held_out[0][:, 0]) == {7}


def test_a_text_of_few_tokens_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"^b: has 896 tokens, but at least 1,024 are needed"):
        split([numbered("a", 50), numbered("b", 7)], None, 20)
