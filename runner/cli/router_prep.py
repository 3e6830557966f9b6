"""Builds a recipe's router before a conversion, for the verbs that read recipes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.merge.merged_source import MergedSource
from franken_gguf.quantize.router_training.train import DEFAULT_STEPS
from franken_gguf.quantize.tensor_types.type_presets import Preset, find_preset
from franken_gguf.runner.cli.options.completion import quant_types
from franken_gguf.runner.cli.options.option_groups import Decorator, option
from franken_gguf.runner.common.hardware import cores
from franken_gguf.runner.crash.flight_recorder import recorder
from franken_gguf.runner.engine.hidden_states import hidden_states
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.temporary_gguf import converted
from franken_gguf.runner.ui import router_screen
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.task_status import working

from .router_training import trained_router

_BASE_TYPE = "Q8_0"


def _base_preset(ctx: click.Context, parameter: click.Parameter, name: str) -> Preset:
    preset = find_preset(name)
    # A dense model gets no preset for mixtures, and a base model has no importance matrix.
    if better := preset.like or preset.without_imatrix:
        raise RecipeError(f"a base model cannot run in {preset.name}; use --base-type {better}")
    return preset


def base_type_option(
    group: str = "",
    what: str = (
        "Quant in which a recipe's base model runs to make the router, for gate_mode hidden, "
        "balanced and trained."
    ),
) -> Decorator:
    """The option --base-type, listed in the help under the heading `group`; `what` is its help."""
    return option(
        "--base-type",
        group=group,
        metavar="TYPE",
        default=_BASE_TYPE,
        callback=_base_preset,
        shell_complete=quant_types,
        help=what,
    )


def route(
    source: Source,
    folder: Path,
    notices: Console,
    *,
    base_type: Preset | None = None,
    threads: int | None = None,
    keep_training: ExitStack | None = None,
) -> None:
    """Build a recipe's router, running the base model if its gate_mode needs that.

    The base model is converted to a temporary file in `folder`, using `threads` as for the
    conversion. `notices` shows what any source has to report. If `keep_training` ends with an
    error, a router that was trained is kept in `folder`, and the same call resumes from it.
    """
    if isinstance(source, MergedSource):
        with ExitStack() as own:
            _route(source, folder, notices, base_type, threads, keep_training or own)
    for line in source.notices:
        say(notices, line)


def _route(
    source: MergedSource,
    folder: Path,
    notices: Console,
    base_type: Preset | None,
    threads: int | None,
    keep_training: ExitStack,
) -> None:
    for line in source.vocabulary_notices():
        say(notices, line)
    if prompts := source.router.prompts():
        preset = base_type or find_preset(_BASE_TYPE)
        task = f"running the base model in {preset.name} on {len(prompts)} prompts"
        name = f"{source.recipe.path}: base model {source.base_folder}"
        with recorder.naming(name), working(notices, task) as done:
            source.route(
                hidden_states(
                    source.base_source(),
                    prompts,
                    preset,
                    folder,
                    of_routers=source.router.reads_inputs,
                    processes=threads or cores(),
                    options=LoadOptions(n_threads=threads),
                    report=lambda count: done(f"{task}: {count} done"),
                )
            )
    if source.recipe.trains_rows:
        preset = base_type or find_preset(_BASE_TYPE)
        _train(source, folder, notices, preset, threads or cores(), keep_training)


def _train(
    source: MergedSource,
    folder: Path,
    notices: Console,
    preset: Preset,
    processes: int,
    keep_training: ExitStack,
) -> None:
    """Train the router on a temporary file of the mixture, if that helps."""
    text = source.recipe.calibration_text
    say(
        notices, f"converting the mixture to {preset.name} in a temporary file, to train its router"
    )
    with converted(source, folder, preset, processes) as header:
        texts = [text] if text else []
        found = keep_training.enter_context(
            trained_router(header, texts, DEFAULT_STEPS, folder, notices)
        )
    trained, names = found.trained, found.names
    for line in router_screen.lines(names, trained):
        say(notices, line)
    if trained.gain > 0:
        source.retrain(trained.rows)
    else:
        say(notices, "training did not improve the router; the one of gate_mode balanced is kept")
