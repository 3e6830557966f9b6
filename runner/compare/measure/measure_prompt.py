"""One prompt asked of a loaded model: a greedy answer, sampled answers, and the lean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from franken_gguf.runner.compare.results.metrics import lean
from franken_gguf.runner.engine.engine import Generation
from franken_gguf.runner.planning.memory_use import N_BATCH
from franken_gguf.runner.sampling.settings import Sampling

from .loaded_model import LoadedModel
from .raw_measurements import MeasuredPrompt, Speed
from .scoring import answer_log_probs
from .tasks import Task, Tokens, choices

# The baseline's lean is measured again in batches of this many tokens: the change is the noise.
_OTHER_BATCH = 16


def measure_prompt(model: LoadedModel, task: Task) -> MeasuredPrompt:
    """A greedy answer, sampled answers with their forced choices, and the lean of each wording."""
    model.engine.forget_from(0)
    steps = 1 + model.settings.samples + (len(task.wordings) if task.answers else 0)
    text, tokens, generation = _answer(model, task.prompt, Sampling(temperature=0))
    speed = _speed(generation)
    model.on_progress(1 / steps)
    samples = []
    for number in range(model.settings.samples):
        sample, sample_speed = _sample(model, task, number)
        samples.append(sample)
        speed += sample_speed
        model.on_progress((2 + number) / steps)
    leans = _leans(model, task, N_BATCH)
    again = _leans(model, task, _OTHER_BATCH) if model.is_baseline else []
    return MeasuredPrompt(
        tokens,
        text,
        generation.finish in ("length", "context"),
        samples,
        raw=[[one.raw for one in orders] for orders in leans],
        per_token=[[one.per_token for one in orders] for orders in leans],
        raw_again=[[one.raw for one in orders] for orders in again],
        speed=speed,
    )


def _answer(
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


def _sample(model: LoadedModel, task: Task, number: int) -> tuple[tuple[int, str, float], Speed]:
    """Seed, answer and forced choice of sample `number`; samples take the wordings in turn."""
    seed = model.settings.seed + number
    places = [(i, j) for i, orders in enumerate(task.wordings) for j in range(len(orders))]
    i, j = places[number % len(places)]
    sampling = Sampling(temperature=model.settings.temperature, seed=seed)
    text, _, generation = _answer(model, task.wordings[i][j], sampling)
    choice = 0.0
    if task.answers:
        asked = task.question.paraphrases[i][j]
        vocabulary = model.engine.vocabulary
        prompts = choices(vocabulary, model.template, task.question, asked, text)
        leans = [_lean(model, task, prompt, N_BATCH).per_token for prompt in prompts]
        choice = float(np.mean(leans))
    return (seed, text, choice), _speed(generation)


class _Lean(NamedTuple):
    """Log-odds of the first set of answers, see `metrics.lean`."""

    raw: float
    per_token: float


def _leans(model: LoadedModel, task: Task, batch: int) -> list[list[_Lean]]:
    """By paraphrase and order; [] for a prompt without answers to score."""
    if not task.answers:
        return []
    leans = []
    for orders in task.wordings:
        # From an empty context, so that the result does not depend on what was asked before.
        model.engine.forget_from(0)
        leans.append([_lean(model, task, wording, batch) for wording in orders])
    return leans


def _lean(model: LoadedModel, task: Task, prompt: Tokens, batch: int) -> _Lean:
    first, second = task.answers
    scores = answer_log_probs(model.engine, prompt, [*first, *second], batch=batch)
    sets = scores[: len(first)], scores[len(first) :]
    return _Lean(lean(*sets), lean(*sets, per_token=True))
