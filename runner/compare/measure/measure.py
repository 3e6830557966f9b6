"""All that is read off one loaded model: its answers, its leans, its scores, its routers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from franken_gguf.runner.compare.results.document import FirstDifference, Settings
from franken_gguf.runner.compare.results.metrics import lean, log_softmax
from franken_gguf.runner.engine.engine import Engine, Generation
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.planning.memory_use import N_BATCH
from franken_gguf.runner.prompt.template import Template
from franken_gguf.runner.prompt.text_stream import text_of
from franken_gguf.runner.sampling.settings import Sampling

from .captured_routing import CapturedRouting, load_routing, routing_of, save_routing
from .log_probs import F32, Scores, read_scores, row_at, write_scores
from .raw_measurements import MeasuredAnswers, MeasuredPrompt, MeasuredScores, Speed
from .scoring import CHUNK, N_OUTPUTS, answer_log_probs, chunk_logits
from .tasks import Task, Tasks, Tokens, choices
from .workspace import Workspace, replacing

# The baseline is asked again in batches of so many tokens, for the noise of arithmetic.
_OTHER_BATCH = 16

OnProgress = Callable[[float], None]


@dataclass
class Loaded:
    """A model that is ready, with what is needed to talk with it."""

    engine: Engine
    template: Template
    settings: Settings
    workspace: Workspace
    probe: RouterProbe | None
    """None for a dense model."""
    is_baseline: bool
    on_progress: OnProgress = field(default=lambda _: None)
    """Told how much of a part is done, 0 to 1."""


def measure_prompt(model: Loaded, task: Task) -> MeasuredPrompt:
    """A greedy answer, sampled ones with what they come down to, and the leans of all wordings."""
    model.engine.forget_from(0)
    steps = 1 + model.settings.samples + len(task.wordings) * bool(task.answers)
    text, tokens, generation = _answer(model, task.prompt, Sampling(temperature=0))
    speed = _speed(generation)
    model.on_progress(1 / steps)
    samples = []
    for number in range(model.settings.samples):
        sample, sample_speed = _sample(model, task, number)
        samples.append(sample)
        speed += sample_speed
        model.on_progress((2 + number) / steps)
    raw, per_token = _leans(model, task, N_BATCH)
    again = _leans(model, task, _OTHER_BATCH)[0] if model.is_baseline else []
    is_cut = generation.finish in ("length", "context")
    return MeasuredPrompt(tokens, text, is_cut, samples, raw, per_token, again, speed)


def _answer(model: Loaded, prompt: Tokens, sampling: Sampling) -> tuple[str, list[int], Generation]:
    """The text, its tokens with the end token, and the generation's figures."""
    generation = model.engine.generate(prompt, sampling, model.settings.max_tokens)
    taken: list[int] = []

    def recorded() -> Iterator[int]:
        for token in generation:
            taken.append(token)
            yield token

    text = _text(model, recorded())
    if model.engine.stop.is_set():
        raise KeyboardInterrupt
    if generation.end_token is not None:
        taken.append(generation.end_token)
    return text, taken, generation


def _text(model: Loaded, tokens: Iterable[int]) -> str:
    # SentencePiece begins an answer with a space, which is no part of what is said.
    piece = model.engine.vocabulary.piece
    return "".join(text_of(tokens, piece, model.template.stops)).lstrip()


def _speed(generation: Generation) -> Speed:
    return Speed(
        generation.prompt_evaluated,
        generation.prompt_seconds,
        max(0, generation.tokens - 1),
        generation.seconds,
    )


def _sample(model: Loaded, task: Task, number: int) -> tuple[tuple[int, str, float], Speed]:
    """The answer of one seed, to one wording after the other, and its forced choice."""
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
        choice = float(np.mean([_lean(model, task, prompt, N_BATCH)[1] for prompt in prompts]))
    return (seed, text, choice), _speed(generation)


def _leans(model: Loaded, task: Task, batch: int) -> tuple[list[list[float]], list[list[float]]]:
    """Raw and per token, by paraphrase and order."""
    if not task.answers:
        return [], []
    found = []
    for orders in task.wordings:
        # From an empty context: the same whatever was asked before.
        model.engine.forget_from(0)
        found.append([_lean(model, task, wording, batch) for wording in orders])
    raw = [[one[0] for one in orders] for orders in found]
    return raw, [[one[1] for one in orders] for orders in found]


def _lean(model: Loaded, task: Task, prompt: Tokens, batch: int) -> tuple[float, float]:
    first, second = task.answers
    scores = answer_log_probs(model.engine, prompt, [*first, *second], batch=batch)
    sets = scores[: len(first)], scores[len(first) :]
    return lean(*sets), lean(*sets, per_token=True)


def measure_text(model: Loaded, tasks: Tasks) -> MeasuredScores:
    """The text, chunk by chunk."""
    total = len(tasks.chunks)

    def scored() -> Iterator[_Scored]:
        for number, (logits, true) in enumerate(chunk_logits(model.engine, tasks.chunks), 1):
            yield _Scored(logits, true, N_OUTPUTS)
            model.on_progress(number / total)

    return _measure_scores(model, "text", scored(), CHUNK * total)


def measure_answers(
    model: Loaded, tasks: Tasks, answers: Sequence[Tokens], own: Sequence[Tokens]
) -> MeasuredAnswers:
    """The baseline's greedy `answers`, one for each prompt, and where `own` leave them."""
    differences: list[FirstDifference | None] = []
    rows = 0

    def scored() -> Iterator[_Scored]:
        nonlocal rows
        for number, (task, answer, ours) in enumerate(
            zip(tasks.prompts, answers, own, strict=True)
        ):
            engine = model.engine
            engine.forget_from(0)
            if len(task.prompt) > 1:
                engine.evaluate(task.prompt[:-1])
            logits = engine.logits([task.prompt[-1], *answer[:-1]])
            differences.append(_difference(model, answer, ours, logits, rows))
            rows += len(answer)
            yield _Scored(logits, list(answer), len(answer))
            model.on_progress((number + 1) / len(answers))

    count = sum(len(task.prompt) for task in tasks.prompts) + sum(map(len, answers))
    scores = _measure_scores(model, "answers", scored(), count)
    return MeasuredAnswers(scores, differences)


def _difference(
    model: Loaded, answer: Tokens, ours: Tokens, logits: F32, rows: int
) -> FirstDifference | None:
    """Where `ours` leaves the baseline's answer, whose scores begin at row `rows` of the file."""
    if model.is_baseline or ours == answer:
        return None
    pairs = enumerate(zip(ours, answer, strict=False))
    shared = min(len(ours), len(answer))
    place = next((n for n, (mine, theirs) in pairs if mine != theirs), shared)
    # Only a limit of tokens ends an answer without an end token, and it is the same for both.
    mine, theirs = ours[place], answer[place]
    path = model.workspace.baseline("answers", "scores")
    vocabulary = model.engine.vocabulary
    own = log_softmax(logits[place])
    base = row_at(path, rows + place, vocabulary.size)
    return FirstDifference(
        token=place,
        character=len(_text(model, ours[:place])),
        own=vocabulary.piece(mine).decode(errors="replace"),
        baseline=vocabulary.piece(theirs).decode(errors="replace"),
        own_probability=(float(np.exp(own[mine])), float(np.exp(base[mine]))),
        baseline_probability=(float(np.exp(own[theirs])), float(np.exp(base[theirs]))),
    )


@dataclass(frozen=True)
class _Scored:
    """What one evaluation gives."""

    logits: F32
    """Good until the next one."""
    true: list[int]
    outputs: int
    """Rows of the evaluation whose logits were computed; `logits` are the first of them."""


def _measure_scores(
    model: Loaded, part: str, evaluations: Iterable[_Scored], tokens: int
) -> MeasuredScores:
    """Scores and routing of all evaluations, in which `tokens` tokens go through the model."""
    heard, found, seconds = CapturedRouting(), [], 0.0
    workspace = model.workspace
    with ExitStack() as files:
        score = _scorer(model, part, files)
        started = time.perf_counter()
        for one in evaluations:
            seconds += time.perf_counter() - started
            found.append(score(one.logits, one.true))
            if model.probe:
                heard.add(model.probe, one.outputs, len(one.true))
            started = time.perf_counter()
        base = None
        if model.is_baseline:
            save_routing(heard, files.enter_context(replacing(workspace.baseline(part, "npz"))))
        else:
            base = load_routing(workspace.baseline(part, "npz"))
    nll, kld, same_top = map(np.concatenate, zip(*found, strict=True))
    routing = routing_of(heard, base)
    speed = Speed(prompt_tokens=tokens, prompt_seconds=seconds)
    return MeasuredScores(nll.tolist(), kld.tolist(), same_top.tolist(), routing, speed)


def _scorer(model: Loaded, part: str, files: ExitStack) -> Callable[[F32, list[int]], Scores]:
    """Scores logits: the baseline's into its file, another model's against it."""
    path = model.workspace.baseline(part, "scores")
    if model.is_baseline:
        path = files.enter_context(replacing(path))
        return partial(write_scores, file=files.enter_context(path.open("wb")))
    return partial(read_scores, file=files.enter_context(path.open("rb")))
