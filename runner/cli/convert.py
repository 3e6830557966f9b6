"""`franken-gguf convert`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.files import created
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.estimate import Estimate, block_weights, estimate
from franken_gguf.quantize.output.jobs import weights_before
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.output.output_names import names_file, output_paths
from franken_gguf.quantize.output.output_paths import refuse_early
from franken_gguf.quantize.output.worker_memory import DEFAULT_MAX_MEMORY
from franken_gguf.quantize.target_size.frontier import FrontierPoint, frontier
from franken_gguf.quantize.target_size.target import Fitted
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.second_moments import read_second_moments
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import (
    LLAMA_PRESETS,
    MOE_PRESETS,
    Preset,
    find_preset,
)
from franken_gguf.runner.cli.options.completion import quant_types
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.output_options import json_option, overwrite_option
from franken_gguf.runner.cli.options.quant_options import (
    imatrix_option,
    requantize_option,
    second_moments_option,
    workers_option,
)
from franken_gguf.runner.cli.options.tensor_type_options import type_options
from franken_gguf.runner.cli.options.types import FILE, MODEL, size
from franken_gguf.runner.common.hardware import cores
from franken_gguf.runner.engine.llama_tokenizer_check import check_tokens
from franken_gguf.runner.kernels.kernel_choice import MODES, choose_kernels
from franken_gguf.runner.ui import convert_screen
from franken_gguf.runner.ui.target_screen import show_fitted, show_frontier

from . import convert_json
from .convert_run import converted
from .frontier_report import check_report, write_report
from .hub_names import hub_names
from .router_prep import base_type_option, route
from .target_options import measured_fitter, stand_in, target_options, targets_of

# Weights converted in the time that another process takes to start.
_WEIGHTS_FOR_A_START = 1 << 24
_DEFAULT_TYPE = "Q4_K_M"
_WHAT, _TYPES, _RESOURCES, _OUTPUT = "Quants", "Tensor types", "Resources", "Output"
_HELP = f"""Convert a model to one or more GGUF quants.

SOURCE is a Hugging Face folder, a GGUF file to quantize again, a mergekit-moe recipe (.yml), whose
experts are read from where they are, or a model's name on the Hugging Face Hub.

TYPE is one of llama-quantize's, in upper or lower case: {" ".join(LLAMA_PRESETS)}; or our own for
mixtures of experts: {" ".join(MOE_PRESETS)}, the size of Q4_K_M and closer to the model.

To resume an interrupted conversion, run the same command again.
"""


@click.command(cls=Command, help=_HELP)
@click.argument("source", type=MODEL)
@option(
    "-q",
    "types",
    group=_WHAT,
    metavar="TYPE",
    multiple=True,
    show_default="Q4_K_M, without --target-size",
    shell_complete=quant_types,
    help="Quant to write. Repeatable: several take one pass over the source.",
)
@target_options(_WHAT)
@option(
    "-o",
    "out",
    group=_WHAT,
    metavar="OUT",
    show_default="the current folder",
    help="Output file (a name with a suffix, with a single -q) or folder, which is created.",
)
@imatrix_option(_WHAT)
@second_moments_option(_WHAT)
@requantize_option(_WHAT)
@base_type_option(_WHAT)
@type_options(_TYPES)
@workers_option(_RESOURCES)
@option(
    "--max-memory",
    group=_RESOURCES,
    type=size,
    metavar="SIZE",
    default=f"{DEFAULT_MAX_MEMORY >> 20}MiB",
    help="Memory for all workers together, beyond what their interpreters take.",
)
@option(
    "--kernels",
    group=_RESOURCES,
    type=click.Choice(MODES),
    default="auto",
    help=(
        "Quantization code: ours in numpy, or ggml's, which writes the same bytes; auto uses the "
        "faster one on this machine for each type."
    ),
)
@option("--dry-run", group=_OUTPUT, is_flag=True, help="Show what would be written, and exit.")
@option(
    "--report",
    "report_file",
    group=_OUTPUT,
    type=FILE,
    metavar="OUT.html",
    help="With --dry-run and a target: plot size against quality, as an HTML page.",
)
@option(
    "--split-max-size",
    group=_OUTPUT,
    type=size,
    metavar="SIZE",
    show_default="one file",
    help="Split the model into files of at most this size, as in 2G.",
)
@option(
    "--verify",
    group=_OUTPUT,
    is_flag=True,
    help="Read the written files back and compare them with the source.",
)
@overwrite_option(_OUTPUT)
@json_option(_OUTPUT)
@hub_names(sources=["source"], group=_WHAT)
def convert(
    source: Path,
    types: tuple[str, ...],
    target_sizes: tuple[str, ...],
    target_bits: tuple[float, ...],
    n_cpu_moe: int | None,
    target_text: Path | None,
    out: str | None,
    imatrix_file: Path | None,
    second_moments_file: Path | None,
    overrides: Overrides,
    strict_types: bool,
    allow_requantize: bool,
    split_max_size: int | None,
    threads: int | None,
    max_memory: int,
    kernels: str,
    base_type: Preset,
    verify: bool,
    dry_run: bool,
    report_file: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Plan every output, check that it can be written, then convert."""
    imatrix = read_imatrix(imatrix_file) if imatrix_file else None
    second_moments = read_second_moments(second_moments_file) if second_moments_file else None
    if report_file:
        check_report(
            report_file, wanted=dry_run and bool(target_sizes or target_bits), overwrite=overwrite
        )
    model = open_source(source)
    needed = n_cpu_moe is not None or target_text is not None
    targets = targets_of(model, imatrix, target_sizes, target_bits, needed=needed)
    names = types or (() if targets else (_DEFAULT_TYPE,))
    presets = list(dict.fromkeys(find_preset(name) for name in names))
    plan = partial(
        plan_output,
        model,
        imatrix=imatrix,
        allow_requantize=allow_requantize,
        strict_types=strict_types,
        split_max_size=split_max_size,
        second_moments=second_moments,
    )
    paths = output_paths(model.name, [*presets, *map(stand_in, targets)], out)
    outputs = [
        plan(path, preset, overrides)
        for path, preset in zip(paths, [*presets, *map(stand_in, targets)], strict=True)
    ]
    notices = Console(stderr=True, highlight=False)
    if imatrix:
        convert_screen.show_imatrix(notices, imatrix, outputs)
    asked, threads = threads, threads or _useful_workers(model)
    folder = source.absolute().parent if dry_run else paths[0].parent
    with ExitStack() as until_written:
        with created(folder) if out and not names_file(out) and not dry_run else nullcontext():
            if not dry_run:
                _check(model, outputs, overwrite=overwrite)
            if targets or not dry_run:
                route(
                    model,
                    folder,
                    notices,
                    base_type=base_type,
                    threads=asked,
                    keep_training=until_written,
                )
        fitter, fitted = None, list[Fitted]()
        if targets:
            fitter = measured_fitter(
                *(model, source, imatrix, overrides, target_text, allow_requantize, notices, asked),
                targets=targets,
                n_cpu_moe=n_cpu_moe or 0,
                second_moments=second_moments,
            )
            fitted = [fitter.fit(target) for target in targets]
            outputs[len(presets) :] = [
                plan(path, one.preset, one.overrides)
                for path, one in zip(paths[len(presets) :], fitted, strict=True)
            ]
        chosen = choose_kernels(kernels, block_weights(model, outputs), threads)
        if dry_run:
            sizes = frontier(fitter, model, imatrix, overrides) if fitter else []
            if report_file:
                write_report(report_file, source, imatrix_file, sizes)
            expected = estimate(model, outputs, threads, max_memory, chosen)
            _show_plan(outputs, fitted, expected, sizes, as_json=as_json)
            return
        result, spent = converted(
            *(model, outputs, chosen, notices),
            threads=threads,
            max_memory=max_memory,
            overwrite=overwrite,
            verify=verify,
        )
        if as_json:
            click.echo(json.dumps(convert_json.written(outputs, result, fitted), indent=2))
        else:
            convert_screen.show_outputs(Console(), outputs, result.checks)
            show_fitted(Console(), outputs[len(presets) :], fitted)
            convert_screen.show_time(notices, result, spent, chosen)


def _show_plan(
    outputs: Sequence[Output],
    fitted: Sequence[Fitted],
    expected: Estimate,
    sizes: Sequence[FrontierPoint],
    *,
    as_json: bool,
) -> None:
    if as_json:
        click.echo(json.dumps(convert_json.planned(outputs, expected, sizes, fitted), indent=2))
    else:
        convert_screen.show_plan(Console(), outputs, expected)
        if fitted:
            Console().print()
            show_fitted(Console(), outputs[-len(fitted) :], fitted)
        show_frontier(Console(), sizes)


def _check(model: Source, outputs: Sequence[Output], *, overwrite: bool) -> None:
    """Raise what can be foreseen before the work begins."""
    if model.tokenizer_folder:
        check_tokens(model.tokenizer_folder, model.metadata)
    refuse_early(outputs, model, overwrite=overwrite)


def _useful_workers(model: Source) -> int:
    """One process per core, but no more than a small model keeps busy."""
    weights = weights_before(model.tensors, (len(model.tensors), 0))
    return min(cores(), 1 + weights // _WEIGHTS_FOR_A_START)
