"""One prompt asked of a loaded model: a greedy answer, sampled answers, and the lean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from franken_gguf.runner.compare.results.metrics import lean
from franken_gguf.runner.engine.engine import Generation
from franken_gguf.runner.engine.sequences import Continuation
from franken_gguf.runner.planning.memory_use import N_BATCH
from franken_gguf.runner.sampling.settings import Sampling

from .loaded_model import LoadedModel
from .raw_measurements import MeasuredPrompt, Speed
from .side_by_side import answers_at_once
from .tasks import Task, Tokens, choices

# The baseline's lean is measured again in batches of this many tokens: the change is the noise.
_OTHER_BATCH = 16

Sample = tuple[int, str, float]
"""Seed, text, and lean of the forced choice."""


def measure_prompt(model: LoadedModel, task: Task) -> MeasuredPrompt:
    """A greedy answer, sampled answers with their forced choices, and the lean of each wording."""
    text, tokens, generation = one_answer(model, task.prompt, Sampling(temperature=0))
    samples: list[Sample] = []
    for group in _groups(model, task):
        model.on_progress((1 + len(samples)) / (2 + model.settings.samples))
        samples += sampled_answers(model, task, group)
    leans = wording_leans(model, task)
    again = wording_leans(model, task, _OTHER_BATCH) if model.is_baseline else []
    return MeasuredPrompt(
        tokens,
        text,
        generation.finish in ("length", "context"),
        samples,
        raw=[[one.raw for one in orders] for orders in leans],
        per_token=[[one.per_token for one in orders] for orders in leans],
        raw_again=[[one.raw for one in orders] for orders in again],
        speed=_speed(generation),
    )


def one_answer(
    model: LoadedModel, prompt: Tokens, sampling: Sampling
) -> tuple[str, list[int], Generation]:
    """The text, its tokens including the end token, and the finished generation."""
    generation = model.engine.generate(prompt, sampling, model.settings.max_tokens)
    tokens: list[int] = []

    def recorded() -> Iterator[int]:
        for token in generation:
            tokens.append(token)
            yield token

    text = model.text(recorded())
    if model.engine.stop.is_set():
        raise KeyboardInterrupt
    if generation.end_token is not None:
        tokens.append(generation.end_token)
    return text, tokens, generation


def _speed(generation: Generation) -> Speed:
    return Speed(
        generation.prompt_evaluated,
        generation.prompt_seconds,
        max(0, generation.tokens - 1),
        generation.seconds,
    )


def _groups(model: LoadedModel, task: Task) -> Iterator[range]:
    """The numbers of the samples that are drawn side by side."""
    size = answers_at_once(task, model.settings.max_tokens, model.engine)
    for start in range(0, model.settings.samples, size):
        yield range(start, min(start + size, model.settings.samples))


def sampled_answers(model: LoadedModel, task: Task, numbers: range) -> list[Sample]:
    """Seed, answer and forced choice of some samples; samples take the wordings in turn."""
    settings, places = model.settings, task.places
    asked = [places[number % len(places)] for number in numbers]
    seeds = [settings.seed + number for number in numbers]
    drawn = model.engine.draw(
        [task.wordings[i][j] for i, j in asked],
        [Sampling(temperature=settings.temperature, seed=seed) for seed in seeds],
        settings.max_tokens,
    )
    texts = [model.text(answer.tokens) for answer in drawn]
    questions = [task.question.paraphrases[i][j] for i, j in asked]
    return list(zip(seeds, texts, _choices(model, task, questions, texts), strict=True))


def _choices(
    model: LoadedModel, task: Task, questions: Sequence[str], texts: Sequence[str]
) -> list[float]:
    """The lean of each sampled answer's forced choice, averaged over the orders of the options."""
    if not task.answers:
        return [0.0] * len(texts)
    vocabulary, template = model.engine.vocabulary, model.template
    # Equal answers to the same question are scored as one: `after` is the first of them.
    firsts: dict[tuple[str, str], int] = {}
    prompts = [
        (prompt, firsts.setdefault((question, text), number))
        for number, (question, text) in enumerate(zip(questions, texts, strict=True))
        for prompt in choices(vocabulary, template, task.question, question, text)
    ]
    leans = [one.per_token for one in _leans(model, task, prompts, N_BATCH)]
    means: list[float] = np.reshape(leans, (len(texts), -1)).mean(axis=1).tolist()
    return means


class WordingLean(NamedTuple):
    """Log-odds of the first set of answers, see `metrics.lean`."""

    raw: float
    per_token: float


def wording_leans(model: LoadedModel, task: Task, batch: int = N_BATCH) -> list[list[WordingLean]]:
    """By paraphrase and order; [] for a prompt without answers to score."""
    if not task.answers:
        return []
    # From an empty context, so that the result does not depend on what was asked before.
    model.engine.clear()
    prompts = [(wording, None) for orders in task.wordings for wording in orders]
    leans = iter(_leans(model, task, prompts, batch))
    return [list(islice(leans, len(orders))) for orders in task.wordings]


def _leans(
    model: LoadedModel, task: Task, prompts: Sequence[tuple[Tokens, int | None]], batch: int
) -> list[WordingLean]:
    """The lean after each prompt; with each the drawn answer with which it begins, if any."""
    first, second = task.answers
    options = [*first, *second]
    scores = model.engine.score(
        [Continuation(prompt, answer, after) for prompt, after in prompts for answer in options],
        batch=batch,
    )
    leans = []
    for start in range(0, len(scores), len(options)):
        some = scores[start : start + len(options)]
        sets = some[: len(first)], some[len(first) :]
        leans.append(WordingLean(lean(*sets), lean(*sets, per_token=True)))
    return leans
