"""Answers drawn side by side and options scored together, by the real SmolLM2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.engine.sequences import Continuation
from franken_gguf.runner.sampling.settings import Sampling
from support.models import demo_gguf, smollm2

OPTIONS = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0, n_outputs=64, n_sequences=12)
ASKED = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
SEEDS = [Sampling(temperature=0.8, seed=seed) for seed in (1, 2, 3, 1)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(read_header(smollm2()), OPTIONS) as engine:
        yield engine


@pytest.fixture(scope="module")
def prompts(engine: Engine) -> list[list[int]]:
    texts = ("Say hello.", "Say hello.", "Name a colour, please.", "Say hello.")
    return [engine.vocabulary.prompt(ASKED.format(text)) for text in texts]


def test_the_same_seeds_draw_the_same_answers_again(
    engine: Engine, prompts: list[list[int]]
) -> None:
    first = engine.draw(prompts, SEEDS, 12)
    engine.generate(prompts[0], SEEDS[1], 4)
    assert engine.draw(prompts, SEEDS, 12) == first
    assert first[0] == first[3] != first[1]


def test_greedy_answers_drawn_side_by_side_are_those_drawn_alone(
    engine: Engine, prompts: list[list[int]]
) -> None:
    greedy = Sampling(temperature=0)
    beside = engine.draw(prompts[1:3], [greedy] * 2, 8)
    for prompt, answer in zip(prompts[1:3], beside, strict=True):
        engine.clear()
        generation = engine.generate(prompt, greedy, 8)
        assert list(generation) == answer.tokens
        assert generation.end_token == answer.end_token


def test_an_answer_that_ends_leaves_the_others_to_go_on(
    engine: Engine, prompts: list[list[int]]
) -> None:
    short = engine.vocabulary.prompt("<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\nBye")
    answers = engine.draw([short, prompts[2]], [Sampling(temperature=0)] * 2, 20)
    assert answers[0].end_token is not None
    assert len(answers[1].tokens) > len(answers[0].tokens)


def test_scores_after_a_drawn_answer_are_those_from_the_beginning(
    engine: Engine, prompts: list[list[int]]
) -> None:
    answers = engine.draw(prompts, SEEDS, 12)
    options = [engine.vocabulary.tokenize(text) for text in (" I would", " I would not", " no")]
    paths = [
        Continuation([*prompt, *answer.tokens[:-1]], option, number)
        for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        for option in options
    ]
    shared = engine.score(paths)
    assert [scores.shape for scores in shared] == [(len(path.answer),) for path in paths]
    engine.clear()
    for scores, path in zip(shared, paths, strict=True):
        # One token at a time or all at once differ by up to 0.24 in this 4-bit model, too.
        (alone,) = engine.score([path])
        assert scores == pytest.approx(alone, abs=0.4)
    # Options that begin alike share these evaluations, to the bit.
    assert (shared[0] == shared[1][:2]).all()


def test_more_options_than_fit_are_scored_in_turn(engine: Engine) -> None:
    engine.clear()
    prompt = engine.vocabulary.prompt("one two three " * 30)
    paths = [Continuation([*prompt, token], [token, token]) for token in range(100, 160)]
    assert len(engine.score(paths)) == 60


def test_routers_are_not_captured_while_answers_are_drawn_but_after() -> None:
    probe = RouterProbe()
    options = replace(OPTIONS, n_ctx=1024)
    with Engine(read_header(demo_gguf("Q8_0")), options, probe=probe) as engine:
        prompt = engine.vocabulary.prompt(ASKED.format("Say hello.") * 60)[:600]
        # The first batch has no outputs, and so no rows in the last layer.
        assert len(engine.draw([prompt] * 2, SEEDS[:2], 2)) == 2
        assert not probe.chosen
        engine.clear()
        engine.evaluate(prompt[:4])
        assert len(probe.chosen) == 30
