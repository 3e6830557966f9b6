"""A model's stored measurements, loaded from a workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from franken_gguf.runner.compare.results.document import FirstDifference
from franken_gguf.runner.compare.results.metrics import LayerRouting

from .measure_job import ANSWERS, RUN, TEXT, Job, prompt_part
from .raw_measurements import Measured, MeasuredAnswers, MeasuredPrompt, MeasuredScores, Run, Speed
from .tasks import CompareError, Tokens

Part = TypeVar("Part")


def measured_from(job: Job, error: str = "") -> Measured:
    """Everything stored of a model; parts that cannot be read count as missing."""
    return Measured(
        _prompts(job, job.key),
        _loaded(job, job.key, ANSWERS, _answers),
        _loaded(job, job.key, TEXT, _scores),
        _loaded(job, job.key, RUN, _run),
        error,
    )


def greedy_answers(job: Job, key: str) -> list[Tokens]:
    """The tokens of the greedy answers of model `key` to all prompts. Raises CompareError."""
    prompts = _prompts(job, key)
    if None in prompts:
        raise CompareError(
            f"{job.workspace.folder}: stored answers are missing; run the same command again"
        )
    return [tuple(prompt.tokens) for prompt in prompts if prompt]


def _prompts(job: Job, key: str) -> list[MeasuredPrompt | None]:
    numbers = range(len(job.tasks.prompts))
    return [_loaded(job, key, prompt_part(number), _prompt) for number in numbers]


def _loaded(
    job: Job, key: str, part: str, made_from: Callable[[dict[str, Any]], Part]
) -> Part | None:
    stored = job.workspace.load(key, part)
    try:
        return None if stored is None else made_from(stored)
    except (TypeError, KeyError, ValueError):
        return None


def _prompt(stored: dict[str, Any]) -> MeasuredPrompt:
    samples = [(int(seed), str(text), float(lean)) for seed, text, lean in stored["samples"]]
    return MeasuredPrompt(**stored | {"samples": samples, "speed": Speed(**stored["speed"])})


def _scores(stored: dict[str, Any]) -> MeasuredScores:
    routing = [LayerRouting(**one | {"load": tuple(one["load"])}) for one in stored["routing"]]
    return MeasuredScores(**stored | {"routing": routing, "speed": Speed(**stored["speed"])})


def _answers(stored: dict[str, Any]) -> MeasuredAnswers:
    pairs = ("own_probability", "baseline_probability")
    differences = [
        FirstDifference(**one | {pair: tuple(one[pair]) for pair in pairs}) if one else None
        for one in stored["differences"]
    ]
    return MeasuredAnswers(_scores(stored["scores"]), differences)


def _run(stored: dict[str, Any]) -> Run:
    return Run(**stored)
