"""How long a comparison will take at most: a quick measurement of speed, and the tokens to come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.token_tree import TokenTree
from franken_gguf.runner.sampling.settings import Sampling

from .measure_job import ANSWERS, TEXT, Job, prompt_part
from .scoring import CHUNK
from .side_by_side import answers_at_once
from .tasks import Task, Tasks

_PROMPT_TOKENS = 128
_STEPS = 3
"""Tokens of each answer that are drawn to measure the speed."""
_CHOICE_TOKENS = 64
"""Tokens of the question of a forced choice in both orders, about."""


@dataclass(frozen=True)
class Estimate:
    """The most seconds that all models are going to take, if every answer reaches its limit."""

    seconds: float


@dataclass(frozen=True)
class Rates:
    """Tokens per second."""

    prompt: float
    alone: float
    """Of one answer."""
    beside: float
    """Of all answers drawn side by side together."""


def measured_rates(engine: Engine, task: Task, settings: Settings) -> Rates:
    """The speed of a few batches of this task, which take a second or two on the demo."""
    count = min(answers_at_once(task, settings.max_tokens, engine), max(1, settings.samples))
    prompt = [*task.prompt]
    some = (prompt * _PROMPT_TOKENS)[:_PROMPT_TOKENS]
    engine.clear()
    prompt_seconds = _seconds(lambda: engine.evaluate(some))
    alone_seconds = _STEPS * _seconds(lambda: engine.decode(some[:1]))
    samplings = [Sampling(seed=seed) for seed in range(count)]
    beside_seconds = _seconds(lambda: engine.draw([prompt] * count, samplings, _STEPS + 1))
    engine.clear()
    beside_seconds -= len(prompt) / _PROMPT_TOKENS * prompt_seconds
    return Rates(
        _PROMPT_TOKENS / prompt_seconds,
        _STEPS / alone_seconds,
        max(_STEPS / alone_seconds, count * _STEPS / max(beside_seconds, 1e-9)),
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def estimated(job: Job, rates: Rates) -> Estimate:
    """The seconds of the parts of all models in `job.to_come`, all at the speed of this one."""
    return Estimate(
        sum(
            _part_seconds(job.tasks, job.settings, part, rates, is_baseline=number == 0)
            for number, parts in enumerate(job.to_come)
            for part in parts
        )
    )


def _part_seconds(
    tasks: Tasks, settings: Settings, part: str, rates: Rates, *, is_baseline: bool
) -> float:
    if part == TEXT:
        return CHUNK * len(tasks.chunks) / rates.prompt
    if part == ANSWERS:
        answers = sum(len(task.prompt) + settings.max_tokens for task in tasks.prompts)
        return answers / rates.prompt
    by_part = {prompt_part(number): task for number, task in enumerate(tasks.prompts)}
    return _prompt_seconds(by_part[part], settings, rates, is_baseline=is_baseline)


def _prompt_seconds(task: Task, settings: Settings, rates: Rates, *, is_baseline: bool) -> float:
    options = [answer[:-1] for answers in task.answers for answer in answers]
    asked = [wording for orders in task.wordings for wording in orders]
    leans = _tree_size([[*wording, *option] for wording in asked for option in options])
    drawn = settings.samples * settings.max_tokens / rates.beside
    read = len(task.prompt) + (leans or _tree_size(asked))
    if options:
        read += settings.samples * (_CHOICE_TOKENS + 2 * _tree_size(options))
    again = leans / rates.beside if is_baseline else 0.0
    return settings.max_tokens / rates.alone + drawn + read / rates.prompt + again


def _tree_size(sequences: Sequence[Sequence[int]]) -> int:
    tree = TokenTree()
    for tokens in sequences:
        tree.add(tokens, 0, (None, 0))
    return len(tree.nodes)
