"""Scores by the real SmolLM2, compared with evaluating one token at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.compare.measure.scoring import (
    CHUNK,
    N_OUTPUTS,
    SCORED,
    chunk_logits,
    chunks,
)
from franken_gguf.runner.compare.results.metrics import log_softmax
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.sequences import Continuation
from franken_gguf.runner.sampling.settings import Sampling
from support.models import smollm2

OPTIONS = LoadOptions(n_ctx=CHUNK, n_threads=1, n_gpu_layers=0, n_outputs=N_OUTPUTS, n_sequences=8)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(read_header(smollm2()), OPTIONS) as engine:
        yield engine


def scored(
    engine: Engine, prompt: list[int], answers: list[list[int]], batch: int = CHUNK
) -> list[NDArray[np.float32]]:
    engine.clear()
    return engine.score([Continuation(prompt, answer) for answer in answers], batch=batch)


def one_by_one(engine: Engine, prompt: list[int], answer: list[int]) -> list[float]:
    engine.clear()
    row = engine.logits(prompt, len(prompt) - 1)
    found = []
    for token in answer:
        found.append(float(log_softmax(row)[0, token]))
        row = engine.logits([token])
    return found


def test_an_answers_tokens_have_the_probabilities_of_a_token_at_a_time(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt("The capital of France is")
    texts = (" Paris.", " a city of light and of many bridges", " Paris")
    answers = [engine.vocabulary.tokenize(text) for text in texts]
    found = scored(engine, prompt, answers)
    for answer, scores in zip(answers, found, strict=True):
        # How many tokens are evaluated at once moves the last bits of quantized products.
        assert scores == pytest.approx(one_by_one(engine, prompt, answer), abs=0.05)
    assert found[0][0] == found[2][0] > found[1][0]


def test_a_greedy_answer_has_the_top_token_at_each_position(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt("1, 2, 3, 4, 5, 6,")
    answer = list(engine.generate(prompt, Sampling(temperature=0), 6))
    (scores,) = scored(engine, prompt, [answer])
    assert scores.min() > np.log(0.5)


def test_a_prompt_scored_in_small_batches_is_the_same_but_for_rounding(engine: Engine) -> None:
    prompt = engine.vocabulary.prompt("If you could live for ever, would you? I would")
    answers = [engine.vocabulary.tokenize(" not")]
    (whole,) = scored(engine, prompt, answers)
    (parts,) = scored(engine, prompt, answers, batch=3)
    assert parts == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize(
    ("prompt", "answer", "reason"),
    [
        ([1], [], "is empty"),
        ([], [1], "is empty"),
        ([1] * 500, [1] * 20, "520 tokens, but the context has 512"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_numbers(
    engine: Engine, prompt: list[int], answer: list[int], reason: str
) -> None:
    with pytest.raises(EngineError, match=reason):
        scored(engine, prompt, [[1], answer])


def test_a_text_is_cut_into_whole_chunks_and_its_second_halves_are_scored(engine: Engine) -> None:
    text = "The sea was calm, and the keeper slept; " * 130
    cut = chunks(engine.vocabulary, text, most=2)
    tokens = engine.vocabulary.tokenize(text)
    assert cut == [tokens[:CHUNK], tokens[CHUNK : 2 * CHUNK]]
    (first, true), second = [(log_softmax(rows), to) for rows, to in chunk_logits(engine, cut)]
    assert first.shape == second[0].shape == (SCORED, engine.vocabulary.size)
    assert true == tokens[CHUNK - SCORED : CHUNK]
    assert np.exp(first.astype(np.float64)).sum(axis=1) == pytest.approx(1, abs=1e-4)
    # What was evaluated before a chunk leaves nothing in it.
    ((alone, _),) = chunk_logits(engine, cut[1:])
    assert (log_softmax(alone) == second[0]).all()
    # The text repeats itself: after half a chunk the model knows what comes.
    assert first[np.arange(SCORED), true].mean() > np.log(0.5)


def test_a_text_too_short_to_score_is_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(EngineError, match="has 5 tokens, but scoring needs 1024"):
        chunks(engine.vocabulary, "one two three four five", most=9)
