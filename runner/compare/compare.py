"""The whole comparison: read it first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import llama_cpp

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.compare.measure.measure_job import SCORED_PARTS, Job, Progress, parts
from franken_gguf.runner.compare.measure.measure_model import measure_model
from franken_gguf.runner.compare.measure.questions import Question
from franken_gguf.runner.compare.measure.scoring import N_OUTPUTS
from franken_gguf.runner.compare.measure.stored import measured_from
from franken_gguf.runner.compare.measure.subprocess_worker import messages
from franken_gguf.runner.compare.measure.tasks import Tasks, check_context, prepare
from franken_gguf.runner.compare.measure.workspace import (
    Workspace,
    digest,
    fingerprint,
    remove_abandoned,
)
from franken_gguf.runner.compare.results.conclusion import conclusion
from franken_gguf.runner.compare.results.document import Comparison, Prompt, Settings
from franken_gguf.runner.engine.loading import LoadOptions

from .assemble import assemble
from .candidates import Candidate, check_vocabulary


@dataclass(frozen=True)
class Request:
    """What is compared, and how."""

    candidates: tuple[Candidate, ...]
    baseline: Candidate
    """One of them."""
    questions: tuple[Question, ...]
    text: str
    """To be scored, `settings.chunks` of it at most, where `settings.text` names it."""
    settings: Settings
    options: LoadOptions
    vram: tuple[int, ...] | None = None
    rpc: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listener:
    """Who is told while models are measured."""

    begins: Callable[[Candidate, Sequence[str]], None]
    """A model, and the parts that are still to be measured."""
    progress: Callable[[Progress], None]
    notice: Callable[[str], None]


def compare(request: Request, cache: Path, listener: Listener) -> Comparison:
    """Measure every model, the baseline first, one at a time, and say how they differ.

    What is done is kept under `cache`, and the same request goes on with it. A model that fails is
    in the result with its error. Raises a FrankenError where the baseline fails or nothing can be
    compared, OSError, KeyboardInterrupt.
    """
    for one in request.candidates:
        check_vocabulary(request.baseline, one)
    tasks = _tasks(request)
    remove_abandoned(cache)
    baseline, *others = _jobs(request, tasks, cache)
    errors: dict[str, str] = {}
    with baseline.workspace.locked():
        for candidate, job in zip(_baseline_first(request), (baseline, *others), strict=True):
            missing = _missing(job, others)
            try:
                _measure(candidate, replace(job, parts=tuple(missing)), listener)
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
    """One for each model, the baseline's first, without parts."""
    options = replace(
        request.options,
        n_ctx=tasks.n_ctx if request.options.n_ctx is None else request.options.n_ctx,
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


def _missing(job: Job, others: Sequence[Job]) -> list[str]:
    """The parts that are not there yet, and of the baseline the scores that others need."""
    return [
        part
        for part in parts(job.tasks)
        if job.workspace.load(job.key, part) is None
        or (
            job.is_baseline
            and part in SCORED_PARTS
            and not job.workspace.has_baseline(part)
            and any(other.workspace.load(other.key, part) is None for other in others)
        )
    ]


def _measure(candidate: Candidate, job: Job, listener: Listener) -> None:
    listener.begins(candidate, job.parts)
    if not job.parts:
        return
    for said in messages(measure_model, job, str(job.path)):
        if isinstance(said, Progress):
            listener.progress(said)
        else:
            listener.notice(f"{candidate.name}: {said}")


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
    found = Comparison(settings, prompts, baseline, models, version=version("franken-gguf"))
    return replace(found, conclusion=conclusion(found))
