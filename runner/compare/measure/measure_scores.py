"""Given tokens scored by a loaded model: the baseline's answers and a text, with the routing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from franken_gguf.runner.compare.results.document import FirstDifference
from franken_gguf.runner.compare.results.metrics import log_softmax

from .captured_routing import CapturedRouting, load_routing, routing_by_layer, save_routing
from .loaded_model import LoadedModel
from .log_probs import F32, Scores, read_scores, row_at, write_scores
from .measure_job import ANSWERS, TEXT
from .raw_measurements import MeasuredAnswers, MeasuredScores, Speed
from .scoring import CHUNK, N_OUTPUTS, chunk_logits
from .tasks import Task, Tasks, Tokens
from .workspace import replacing


def measure_text(model: LoadedModel, tasks: Tasks) -> MeasuredScores:
    """Score the text, chunk by chunk."""
    total = len(tasks.chunks)

    def evaluations() -> Iterator[_Evaluation]:
        for number, (logits, true) in enumerate(chunk_logits(model.engine, tasks.chunks), 1):
            yield _Evaluation(logits, true, N_OUTPUTS)
            model.on_progress(number / total)

    return _measure_scores(model, TEXT, evaluations(), CHUNK * total)


def measure_answers(
    model: LoadedModel, tasks: Tasks, answers: Sequence[Tokens], own: Sequence[Tokens]
) -> MeasuredAnswers:
    """Score the baseline's greedy `answers`, one per prompt, and find where `own` differ."""
    differences: list[FirstDifference | None] = []
    first_rows = np.cumsum([0, *map(len, answers)]).tolist()

    def evaluations() -> Iterator[_Evaluation]:
        for number, (task, answer, ours) in enumerate(
            zip(tasks.prompts, answers, own, strict=True)
        ):
            logits = _answer_logits(model, task, answer)
            differences.append(_difference(model, answer, ours, logits, first_rows[number]))
            yield _Evaluation(logits, list(answer), len(answer))
            model.on_progress((number + 1) / len(answers))

    count = sum(len(task.prompt) for task in tasks.prompts) + first_rows[-1]
    scores = _measure_scores(model, ANSWERS, evaluations(), count)
    return MeasuredAnswers(scores, differences)


def _answer_logits(model: LoadedModel, task: Task, answer: Tokens) -> F32:
    """(len(answer), vocabulary): the logits that predict each token of the answer."""
    engine = model.engine
    engine.forget_from(0)
    if len(task.prompt) > 1:
        engine.evaluate(task.prompt[:-1])
    return engine.logits([task.prompt[-1], *answer[:-1]])


def _difference(
    model: LoadedModel, answer: Tokens, ours: Tokens, logits: F32, first_row: int
) -> FirstDifference | None:
    """Where `ours` leaves the baseline's answer, whose scores begin at `first_row` of the file."""
    if model.is_baseline or ours == answer:
        return None
    pairs = enumerate(zip(ours, answer, strict=False))
    shared = min(len(ours), len(answer))
    place = next((n for n, (mine, theirs) in pairs if mine != theirs), shared)
    # Only the token limit ends an answer without an end token, and it is the same for both.
    mine, theirs = ours[place], answer[place]
    path = model.workspace.baseline(ANSWERS, "scores")
    vocabulary = model.engine.vocabulary
    own = log_softmax(logits[place])
    base = row_at(path, first_row + place, vocabulary.size)
    return FirstDifference(
        token=place,
        character=len(model.text(ours[:place])),
        own=vocabulary.piece(mine).decode(errors="replace"),
        baseline=vocabulary.piece(theirs).decode(errors="replace"),
        own_probability=(float(np.exp(own[mine])), float(np.exp(base[mine]))),
        baseline_probability=(float(np.exp(own[theirs])), float(np.exp(base[theirs]))),
    )


@dataclass(frozen=True)
class _Evaluation:
    """The result of one evaluation."""

    logits: F32
    """(scored positions, vocabulary); valid until the next evaluation."""
    true: list[int]
    """The token that follows each scored position."""
    outputs: int
    """Rows whose logits the evaluation computed; `logits` are the first of them."""


def _measure_scores(
    model: LoadedModel, part: str, evaluations: Iterable[_Evaluation], tokens: int
) -> MeasuredScores:
    """Scores and routing of all evaluations, which take `tokens` tokens through the model."""
    routing, scores, seconds = CapturedRouting(), [], 0.0
    routing_file = model.workspace.baseline(part, "npz")
    with ExitStack() as files:
        score = _scorer(model, part, files)
        started = time.perf_counter()
        for evaluation in evaluations:
            seconds += time.perf_counter() - started
            scores.append(score(evaluation.logits, evaluation.true))
            if model.probe:
                routing.add(model.probe, evaluation.outputs, len(evaluation.true))
            started = time.perf_counter()
        base = None
        if model.is_baseline:
            save_routing(routing, files.enter_context(replacing(routing_file)))
        else:
            base = load_routing(routing_file)
    nll, kld, same_top = map(np.concatenate, zip(*scores, strict=True))
    speed = Speed(prompt_tokens=tokens, prompt_seconds=seconds)
    return MeasuredScores(
        nll.tolist(), kld.tolist(), same_top.tolist(), routing_by_layer(routing, base), speed
    )


def _scorer(model: LoadedModel, part: str, files: ExitStack) -> Callable[[F32, list[int]], Scores]:
    """A function that scores logits: the baseline's into its file, another model's against it."""
    path = model.workspace.baseline(part, "scores")
    if model.is_baseline:
        path = files.enter_context(replacing(path))
        return partial(write_scores, file=files.enter_context(path.open("wb")))
    return partial(read_scores, file=files.enter_context(path.open("rb")))
