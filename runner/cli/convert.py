"""`franken-gguf convert`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize import convert as pipeline
from franken_gguf.quantize.estimate import estimate
from franken_gguf.quantize.imatrix import read_imatrix
from franken_gguf.quantize.jobs import weights_before
from franken_gguf.quantize.memory import DEFAULT_MAX_MEMORY
from franken_gguf.quantize.naming import names_file, output_paths
from franken_gguf.quantize.output import plan_output
from franken_gguf.quantize.places import refuse_early
from franken_gguf.quantize.presets import Preset, find_preset, find_type
from franken_gguf.quantize.recipe import Overrides
from franken_gguf.quantize.source import Source, open_source
from franken_gguf.runner import convert_json, ui_convert
from franken_gguf.runner.devices import cores
from franken_gguf.runner.engine.token_check import check_tokens
from franken_gguf.runner.meter import Meter
from franken_gguf.runner.ui_progress import conversion_progress

from .parameters import FILE, size
from .routing import base_type_option, route

# Weights that are converted by the time another process has started.
_WEIGHTS_FOR_A_START = 1 << 24


def _tensor_types(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Any], ...]:
    pairs = [value.rpartition("=") for value in values]
    if any(not pattern for pattern, _, _ in pairs):
        raise click.BadParameter("write it as REGEX=TYPE, for example ffn_down=Q6_K")
    return tuple((pattern, find_type(name)) for pattern, _, name in pairs)


@click.command()
@click.argument("source", type=FILE)
@click.option(
    "-q",
    "types",
    metavar="TYPE",
    multiple=True,
    default=("Q4_K_M",),
    show_default=True,
    help="What to write; repeat it to write several files in one pass.",
)
@click.option(
    "-o",
    "out",
    metavar="PATH",
    help="A file (one -q; a name with a suffix) or a folder, which is made.  [default: .]",
)
@click.option("--imatrix", "imatrix_file", type=FILE, help="An importance matrix, GGUF or .dat.")
@click.option(
    "--tensor-type",
    "tensor_types",
    metavar="REGEX=TYPE",
    multiple=True,
    callback=_tensor_types,
    help="The type of the tensors whose name matches.",
)
@click.option("--token-embedding-type", metavar="TYPE", help="The type of token_embd.weight.")
@click.option("--output-tensor-type", metavar="TYPE", help="The type of output.weight.")
@click.option("--pure", is_flag=True, help="One type for all, no exceptions by layer.")
@click.option("--leave-output-tensor", is_flag=True, help="Do not quantize output.weight.")
@click.option("--strict-types", is_flag=True, help="Refuse types that need a fallback.")
@click.option("--allow-requantize", is_flag=True, help="Quantize again what is quantized.")
@click.option(
    "--split-max-size", type=size, metavar="SIZE", help="Cut the model into files of this size."
)
@click.option(
    "--threads", type=click.IntRange(1, 512), help="Worker processes.  [default: one a core]"
)
@click.option(
    "--max-memory",
    type=size,
    metavar="SIZE",
    default=f"{DEFAULT_MAX_MEMORY >> 20}MiB",
    show_default=True,
    help="What all workers may use beyond their interpreters.",
)
@base_type_option
@click.option("--verify", is_flag=True, help="Read the files back and compare with the source.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def convert(
    source: Path,
    types: tuple[str, ...],
    out: str | None,
    imatrix_file: Path | None,
    tensor_types: tuple[tuple[str, Any], ...],
    token_embedding_type: str | None,
    output_tensor_type: str | None,
    pure: bool,
    leave_output_tensor: bool,
    strict_types: bool,
    allow_requantize: bool,
    split_max_size: int | None,
    threads: int | None,
    max_memory: int,
    base_type: Preset,
    verify: bool,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write SOURCE as GGUF: a Hugging Face folder, a GGUF file to quantize again, or a mergekit-moe
    recipe (.yml), whose experts are read where they are.

    TYPE is one of F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0
    IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K Q2_K_S (case ignored), as llama-quantize has them, or
    Q4_K_MOE, our own for mixtures of experts: of Q4_K_M's size, nearer to the model.

    A conversion that was interrupted goes on where it stopped when the same command is given again.
    """
    presets = list(dict.fromkeys(find_preset(name) for name in types))
    overrides = Overrides(
        tensor_types,
        find_type(token_embedding_type) if token_embedding_type else None,
        find_type(output_tensor_type) if output_tensor_type else None,
        pure,
        leave_output_tensor,
    )
    imatrix = read_imatrix(imatrix_file) if imatrix_file else None
    model = open_source(source)
    outputs = [
        plan_output(
            model,
            path,
            preset,
            overrides,
            imatrix,
            allow_requantize=allow_requantize,
            strict_types=strict_types,
            split_max_size=split_max_size,
        )
        for path, preset in zip(output_paths(model.name, presets, out), presets, strict=True)
    ]
    notices = Console(stderr=True, highlight=False)
    if imatrix:
        ui_convert.show_imatrix(notices, imatrix, outputs)
    asked, threads = threads, threads or _worth_starting(model)
    if dry_run:
        expected = estimate(model, outputs, threads, max_memory)
        if as_json:
            click.echo(json.dumps(convert_json.planned(outputs, expected), indent=2))
        else:
            ui_convert.show_plan(Console(), outputs, expected)
        return
    if model.tokenizer_folder:
        check_tokens(model.tokenizer_folder, model.metadata)
    if out and not names_file(out):
        outputs[0].path.parent.mkdir(parents=True, exist_ok=True)
    refuse_early(outputs, model, overwrite=overwrite)
    route(model, outputs[0].path.parent, notices, base_type=base_type, threads=asked)
    meter = Meter(model, outputs)
    try:
        with conversion_progress(notices, meter) as report:
            result = pipeline.convert(
                model,
                outputs,
                threads=threads,
                max_memory=max_memory,
                overwrite=overwrite,
                check=verify,
                report=report,
                report_check=meter.compare,
                say=partial(ui_convert.say, notices),
            )
    except KeyboardInterrupt as interrupt:
        # Before the first job is done the meter knows nothing, also of an earlier run's work.
        where = f" at {100 * meter.weights // meter.total} %" if meter.weights else ""
        interrupt.args = (f"Interrupted{where}; the same command goes on from there.",)
        raise
    if as_json:
        click.echo(json.dumps(convert_json.written(outputs, result), indent=2))
    else:
        ui_convert.show_outputs(Console(), outputs, result.checks)
        ui_convert.show_time(notices, result, meter.seconds)


def _worth_starting(model: Source) -> int:
    """A process for each core, but none that would find all the work done."""
    weights = weights_before(model.tensors, (len(model.tensors), 0))
    return min(cores(), 1 + weights // _WEIGHTS_FOR_A_START)
