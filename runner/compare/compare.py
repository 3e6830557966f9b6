"""The whole comparison; read this file first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import llama_cpp

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.model_identity import identity
from franken_gguf.runner.compare.measure.measure_job import SCORED_PARTS, Job, Progress, parts
from franken_gguf.runner.compare.measure.measure_model import measure_model
from franken_gguf.runner.compare.measure.questions import Question
from franken_gguf.runner.compare.measure.scoring import N_OUTPUTS
from franken_gguf.runner.compare.measure.side_by_side import side_by_side
from franken_gguf.runner.compare.measure.stored import measured_from
from franken_gguf.runner.compare.measure.subprocess_worker import messages
from franken_gguf.runner.compare.measure.tasks import Tasks, check_context, prepare
from franken_gguf.runner.compare.measure.time_estimate import Estimate
from franken_gguf.runner.compare.measure.workspace import (
    Workspace,
    digest,
    fingerprint,
    remove_abandoned,
)
from franken_gguf.runner.compare.results.conclusion import conclusion
from franken_gguf.runner.compare.results.document import Comparison, Prompt, Settings
from franken_gguf.runner.compare.results.preference import Preference, preference
from franken_gguf.runner.compare.results.votes import Vote
from franken_gguf.runner.engine.loading import LoadOptions

from .assemble import assemble
from .candidates import Candidate, check_vocabulary


@dataclass(frozen=True)
class Request:
    """The models to compare, and how."""

    candidates: tuple[Candidate, ...]
    baseline: Candidate
    """One of them."""
    questions: tuple[Question, ...]
    text: str
    """Scored up to `settings.chunks` chunks if `settings.text` names it."""
    settings: Settings
    options: LoadOptions
    vram: tuple[int, ...] | None = None
    rpc: tuple[str, ...] = ()
    expert_names: tuple[str, ...] = ()
    """In the order of the experts; empty if they are not known."""
    votes: tuple[Vote, ...] = ()
    """Blind choices; those between other models are left out."""


@dataclass(frozen=True)
class Listener:
    """Callbacks during a comparison."""

    begins: Callable[[Candidate, Sequence[str]], None]
    """A model begins, with the parts still to measure."""
    progress: Callable[[Progress], None]
    estimate: Callable[[float], None]
    """The most seconds that all models still need, measured on the first."""
    notice: Callable[[str], None]


def compare(request: Request, cache: Path, listener: Listener) -> Comparison:
    """Measure the models one at a time, the baseline first, and compare them.

    Results are kept under `cache`; the same request resumes from there. A model that fails is in
    the result with its error. Raises a FrankenError if the baseline fails or the models cannot be
    compared, OSError, KeyboardInterrupt.
    """
    for one in request.candidates:
        check_vocabulary(request.baseline, one)
    tasks = _tasks(request)
    remove_abandoned(cache)
    baseline, *others = _jobs(request, tasks, cache)
    errors: dict[str, str] = {}
    with baseline.workspace.locked():
        to_come = tuple(_missing(job, others) for job in (baseline, *others))
        for candidate, job in zip(_baseline_first(request), (baseline, *others), strict=True):
            missing = _missing(job, others)
            try:
                _measure(candidate, replace(job, parts=missing, to_come=to_come), listener)
                to_come = () if missing else to_come
            except FrankenError as error:
                if job is baseline:
                    raise
                errors[candidate.name] = str(error)
                listener.notice(f"{candidate.name}: {error}")
        if not errors:
            baseline.workspace.remove_baseline()
        return _result(request, tasks, (baseline, *others), errors)


def _baseline_first(request: Request) -> list[Candidate]:
    return [request.baseline, *(one for one in request.candidates if one is not request.baseline)]


def _tasks(request: Request) -> Tasks:
    tasks = prepare(request.baseline.header, request.questions, request.text, request.settings)
    if request.options.n_ctx:
        check_context(tasks, request.options.n_ctx, "-c")
    for one in request.candidates:
        check_context(tasks, one.summary.context_length, str(one.header.path))
    return tasks


def _jobs(request: Request, tasks: Tasks, cache: Path) -> list[Job]:
    """A job for each model, the baseline's first, without parts."""
    options = replace(
        side_by_side(request.options, request.baseline.header, tasks, request.settings),
        n_outputs=N_OUTPUTS,
        n_threads=request.settings.threads,
    )
    paths = [one.header.path for one in _baseline_first(request)]
    keys = [digest(fingerprint(path), path.resolve()) for path in paths]
    versions = version("franken-gguf"), llama_cpp.__version__
    placement = options, request.vram, request.rpc
    workspace = Workspace(
        cache / "compare" / digest(versions, keys[0], tasks, request.settings, placement)
    )
    return [
        Job(
            path,
            key,
            baseline=paths[0],
            baseline_key=keys[0],
            tasks=tasks,
            settings=request.settings,
            workspace=workspace,
            parts=(),
            options=options,
            vram=request.vram,
            rpc=request.rpc,
        )
        for path, key in zip(paths, keys, strict=True)
    ]


def _missing(job: Job, others: Sequence[Job]) -> tuple[str, ...]:
    """The parts not measured yet, and for the baseline the scores that other models need."""
    return tuple(
        part
        for part in parts(job.tasks)
        if job.workspace.load(job.key, part) is None
        or (
            job.is_baseline
            and part in SCORED_PARTS
            and not job.workspace.has_baseline(part)
            and any(other.workspace.load(other.key, part) is None for other in others)
        )
    )


def _measure(candidate: Candidate, job: Job, listener: Listener) -> None:
    listener.begins(candidate, job.parts)
    if not job.parts:
        return
    for message in messages(measure_model, job, str(job.path)):
        if isinstance(message, Progress):
            listener.progress(message)
        elif isinstance(message, Estimate):
            listener.estimate(message.seconds)
        else:
            listener.notice(f"{candidate.name}: {message}")


def _result(
    request: Request, tasks: Tasks, jobs: Sequence[Job], errors: dict[str, str]
) -> Comparison:
    measured = {
        candidate.name: measured_from(job, errors.get(candidate.name, ""))
        for candidate, job in zip(_baseline_first(request), jobs, strict=True)
    }
    baseline = request.baseline.name
    models = tuple(
        assemble(
            one.name,
            one.summary,
            request.questions,
            measured[one.name],
            None if one is request.baseline else measured[baseline],
        )
        for one in request.candidates
    )
    prompts = tuple(
        Prompt(one.name, one.text, sum(map(len, one.paraphrases)), one.labels, one.measure)
        for one in request.questions
    )
    settings = replace(request.settings, chunks=len(tasks.chunks))
    comparison = Comparison(
        settings,
        prompts,
        baseline,
        models,
        version=version("franken-gguf"),
        expert_names=request.expert_names,
        preferences=tuple(_preferences(request)),
    )
    return replace(comparison, conclusion=conclusion(comparison))


def _preferences(request: Request) -> Iterator[Preference]:
    """Of each pair of models that there are votes between."""
    if not request.votes:
        return
    models = [(one.name, identity(one.header)) for one in request.candidates]
    for first, second in combinations(models, 2):
        found = preference(request.votes, first, second)
        if found.choices:
            yield found
