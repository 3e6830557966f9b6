"""`franken-gguf fit`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.target_size.target import Fitted
from franken_gguf.quantize.tensor_types.imatrix import Imatrix, read_imatrix
from franken_gguf.quantize.tensor_types.second_moments import SecondMoments, read_second_moments
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.output_options import json_option
from franken_gguf.runner.cli.options.placement_options import MODEL_GROUP, ram_option, vram_option
from franken_gguf.runner.cli.options.quant_options import (
    imatrix_option,
    requantize_option,
    second_moments_option,
    target_text_option,
    workers_option,
)
from franken_gguf.runner.cli.options.types import MODEL
from franken_gguf.runner.planning.model_shape import ModelShape, model_shape
from franken_gguf.runner.planning.placement import PlacementOptions, PlanError
from franken_gguf.runner.planning.planner import DEFAULT_N_CTX
from franken_gguf.runner.sensitivity.largest_fit import largest_fits
from franken_gguf.runner.ui.fit_screen import show_fits

from .hub_names import hub_names
from .plan import machine_of
from .router_prep import route
from .target_options import measured_fitter

_QUANTS = "Quants"


@click.command(cls=Command)
@click.argument("source", type=MODEL)
@option(
    "-c",
    "--ctx-size",
    "n_ctx",
    group=MODEL_GROUP,
    type=click.IntRange(min=0),
    metavar="N",
    default=DEFAULT_N_CTX,
    help="Context length in tokens; 0 is the length that the model was trained for.",
)
@vram_option
@ram_option
@imatrix_option(_QUANTS)
@second_moments_option(_QUANTS)
@target_text_option(_QUANTS)
@requantize_option(_QUANTS)
@workers_option(_QUANTS)
@json_option("Output")
@hub_names(sources=["source"], group=MODEL_GROUP)
def fit(
    source: Path,
    n_ctx: int,
    vram: tuple[int, ...] | None,
    ram: int | None,
    imatrix_file: Path | None,
    second_moments_file: Path | None,
    target_text: Path | None,
    allow_requantize: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Find the best file for a GPU and RAM.

    SOURCE is anything that convert takes. This prints the --target-size at which the model and its
    KV cache fit, where its parts go, and the KL divergence to expect: once with everything on the
    GPU, and once with experts in RAM too.
    """
    notices = Console(stderr=True, highlight=False)
    imatrix = read_imatrix(imatrix_file) if imatrix_file else None
    second_moments = read_second_moments(second_moments_file) if second_moments_file else None
    model = open_source(source)
    route(model, source.absolute().parent, notices, threads=threads)
    fitter = measured_fitter(
        *(model, source, imatrix, Overrides(), target_text, allow_requantize, notices, threads),
        second_moments=second_moments,
    )
    found = largest_fits(
        fitter,
        partial(shape_of, model, imatrix, second_moments),
        machine_of(vram, ram, ()),
        PlacementOptions(n_ctx=n_ctx),
    )
    if not found:
        raise PlanError(
            f"{source}: not even the smallest file, {fitter.least:,} bytes, fits with a context "
            f"of {n_ctx} tokens; give a smaller -c, or more memory"
        )
    if as_json:
        click.echo(json.dumps([asdict(one) | {"cpu_moe": one.cpu_moe} for one in found], indent=2))
    else:
        command = ["franken-gguf", "convert", str(source)]
        command += ["--imatrix", str(imatrix_file)] if imatrix_file else []
        command += ["--second-moments", str(second_moments_file)] if second_moments_file else []
        command += ["--target-text", str(target_text)] if target_text else []
        command += ["--allow-requantize"] if allow_requantize else []
        show_fits(Console(), command, found)


def shape_of(
    model: Source, imatrix: Imatrix | None, second_moments: SecondMoments | None, fitted: Fitted
) -> ModelShape:
    """The shape of the file that these types make, read from its header alone."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{model.name}.gguf"
        output = plan_output(
            *(model, file, fitted.preset, fitted.overrides, imatrix),
            allow_requantize=True,
            second_moments=second_moments,
        )
        with file.open("wb") as written:
            written.write(output.shards[0].header)
            written.truncate(output.nbytes)
        return replace(model_shape(read_header(file)), name=output.path.name)
