"""The missing parts of one model measured, each stored as soon as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.common.hardware import peak_memory
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.engine.this_machine import this_machine, with_vram
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.placement import Machine
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template

from .loaded_model import LoadedModel
from .measure_job import ANSWERS, RUN, TEXT, Job, Progress, prompt_part
from .measure_prompt import measure_prompt
from .measure_scores import measure_answers, measure_text
from .raw_measurements import Run
from .stored import greedy_answers
from .time_estimate import estimated, measured_rates


def measure_model(job: Job, send: Callable[[Any], None]) -> None:
    """Measure `job.parts`, sending Progress objects and notices as text.

    Raises what loading and evaluating a model raise, CompareError, OSError.
    """
    header, baseline = read_header(job.path), read_header(job.baseline)
    probe = RouterProbe() if model_shape(header).n_expert else None
    started = time.perf_counter()
    with (
        Engine(
            header,
            job.options,
            machine=_machine(job, send),
            on_progress=partial(_send_progress, send, ""),
            on_notice=send,
            probe=probe,
        ) as engine,
        Template(stored_template(baseline), special_tokens(baseline)) as template,
    ):
        load_seconds = time.perf_counter() - started
        model = LoadedModel(
            engine, template, job.settings, job.workspace, probe, is_baseline=job.is_baseline
        )
        if job.to_come and job.tasks.prompts:
            rates = measured_rates(engine, job.tasks.prompts[0], job.settings)
            send(estimated(job, rates))
        for part in job.parts:
            model.on_progress = partial(_send_progress, send, part)
            model.on_progress(0)
            engine.clear()
            job.workspace.store(job.key, part, _measured(job, model, part))
        job.workspace.store(job.key, RUN, Run(load_seconds, peak_memory()))


def _measured(job: Job, model: LoadedModel, part: str) -> Any:
    if part == TEXT:
        return measure_text(model, job.tasks)
    if part == ANSWERS:
        base, own = (greedy_answers(job, key) for key in (job.baseline_key, job.key))
        return measure_answers(model, job.tasks, base, own)
    by_part = {prompt_part(number): task for number, task in enumerate(job.tasks.prompts)}
    return measure_prompt(model, by_part[part])


def _send_progress(send: Callable[[Any], None], part: str, done: float) -> None:
    send(Progress(part, done))


def _machine(job: Job, on_notice: Callable[[str], None]) -> Machine:
    machine = this_machine(job.rpc, on_notice)
    return machine if job.vram is None else with_vram(machine, job.vram)
