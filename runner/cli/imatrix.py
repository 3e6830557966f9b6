"""`franken-gguf imatrix`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.common.errors import ImatrixError, OutputError
from franken_gguf.quantize.gguf_file.split_files import joined, model_name
from franken_gguf.quantize.hub.hub_cache import folder_name
from franken_gguf.quantize.tensor_types.imatrix_file import write_imatrix
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.output_options import (
    json_option,
    output_option,
    overwrite_option,
)
from franken_gguf.runner.cli.options.placement_options import (
    MODEL_GROUP,
    placement_options,
    threads_option,
)
from franken_gguf.runner.cli.options.types import FILE, MODEL
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.this_machine import this_machine, with_vram
from franken_gguf.runner.imatrix import calibrate as calibration
from franken_gguf.runner.imatrix.collect import open_collector
from franken_gguf.runner.imatrix.texts import read_text
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.ui import imatrix_screen
from franken_gguf.runner.ui.convert_screen import say

from .hub_names import hub_names
from .imatrix_run import calibrated, own_text, runnable, write_moments
from .router_prep import base_type_option

_TEXT, _EXPERTS, _OUTPUT = "Text", "Experts", "Output"
_LEAST_CHUNK = 16  # rows that llama.cpp asks of a multiplication


@click.command(cls=Command)
@click.argument("source", type=MODEL)
@option(
    "--text",
    "texts",
    group=_TEXT,
    type=FILE,
    metavar="FILE",
    multiple=True,
    show_default="a built-in set",
    help="Text to calibrate on, in UTF-8. Repeatable: the chunks of several files alternate.",
)
@option(
    "--chat-template",
    group=_TEXT,
    is_flag=True,
    help="Render the built-in dialogues with the model's chat template.",
)
@option(
    "--parse-special",
    group=_TEXT,
    is_flag=True,
    help="Parse special tokens in a --text, such as <s>.",
)
@option(
    "--chunks",
    group=_TEXT,
    type=click.IntRange(min=1),
    metavar="N",
    show_default="until --min-tokens-per-expert, or all of the text",
    help="Evaluate this many chunks of the text.",
)
@option(
    "--hold-out",
    group=_TEXT,
    type=click.IntRange(min=0),
    metavar="N",
    default=calibration.DEFAULT_HOLD_OUT,
    help="Skip every Nth chunk, so that quants can be evaluated on it; 0 skips none.",
)
@option(
    "--min-tokens-per-expert",
    "floor",
    group=_EXPERTS,
    type=click.IntRange(min=1),
    metavar="N",
    default=calibration.DEFAULT_FLOOR,
    help="Stop once every expert of every layer has had N tokens; those with fewer are reported.",
)
@option(
    "--all-experts",
    group=_EXPERTS,
    is_flag=True,
    help="Evaluate every expert on every token, without changing what the model computes. Slower.",
)
@option(
    "--prior",
    group=_EXPERTS,
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="Add N tokens with the mean of the layer's experts to every expert.",
)
@placement_options(f"{calibration.DEFAULT_CHUNK_SIZE}, the size of a chunk", experts_used=False)
@threads_option()
@base_type_option(MODEL_GROUP, "Quant in which a folder or a recipe runs.")
@output_option(_OUTPUT, "<name>-imatrix.gguf in the current folder")
@option(
    "--output-format",
    "file_format",
    group=_OUTPUT,
    type=click.Choice(("gguf", "dat")),
    show_default="dat if OUT ends in .dat, else gguf",
    help="Format of the file: GGUF, or llama.cpp's older one.",
)
@option(
    "--second-moments",
    group=_OUTPUT,
    type=FILE,
    metavar="FILE",
    help=(
        "Also write how columns vary together to this GGUF file, for convert --second-moments: "
        "256 KiB of memory for every 256 columns of a matrix, 64 KiB on disk. Cannot be "
        "combined with --all-experts."
    ),
)
@option(
    "--process-output",
    "with_output",
    group=_OUTPUT,
    is_flag=True,
    help="Include output.weight.",
)
@overwrite_option(_OUTPUT)
@json_option(_OUTPUT)
@hub_names(sources=["source"], group=MODEL_GROUP)
def imatrix(
    source: Path,
    texts: tuple[Path, ...],
    chat_template: bool,
    parse_special: bool,
    chunks: int | None,
    hold_out: int,
    floor: int,
    all_experts: bool,
    prior: int,
    placement: PlacementOptions,
    vram: tuple[int, ...] | None,
    rpc: tuple[str, ...],
    n_threads: int | None,
    base_type: Preset,
    out: Path | None,
    file_format: str | None,
    with_output: bool,
    second_moments: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make an importance matrix to quantize with.

    SOURCE is a GGUF file, a Hugging Face folder or a merge recipe (.yml). The model reads a text,
    and the file records how large the inputs of each column of its weights are, for convert
    --imatrix and llama-quantize. To resume an interrupted run, run the same command again.
    """
    notices = Console(stderr=True, highlight=False)
    settings = calibration.Settings(
        chunk_size=_chunk_size(placement.n_ctx),
        chunks=chunks,
        floor=floor,
        hold_out=hold_out,
        with_output=with_output,
        all_experts=all_experts,
    )
    out = out or _default_output(source)
    _refuse_early(out, "-o", overwrite=overwrite)
    if second_moments:
        _check_second_moments(second_moments, out, all_experts=all_experts, overwrite=overwrite)
    given = [calibration.Text(str(path), read_text(path), parse_special) for path in texts]
    options = LoadOptions(**vars(placement), n_threads=n_threads)
    with ExitStack() as resources:
        resources.enter_context(calibration.locked(out))
        header = resources.enter_context(
            runnable(source, out.parent, base_type, n_threads, notices)
        )
        if line := imatrix_screen.quantized_line(joined(header)):
            say(notices, line)
        machine = this_machine(rpc, partial(say, notices))
        collector = resources.enter_context(
            open_collector(
                header,
                settings.chunk_size,
                replace(options, n_ctx=settings.chunk_size),
                machine=machine if vram is None else with_vram(machine, vram),
                on_notice=partial(say, notices),
                with_output=with_output,
                all_experts=all_experts,
                second_moments=second_moments is not None,
            )
        )
        read = given or [own_text(header, chat_template)]
        kept, held = calibration.text_chunks(read, collector.engine.vocabulary, settings)
        result = calibrated(collector, kept, settings, out, notices)
        content = calibration.finished(result, read, settings)
        if second_moments and collector.moments:
            write_moments(second_moments, collector.moments, content)
        legacy = (file_format or out.suffix.lower().lstrip(".")) == "dat"
        write_imatrix(out, content.with_prior(prior) if prior else content, legacy=legacy)
        result.delete()
    summary = imatrix_screen.Summary(out, content, settings, len(kept), len(held), second_moments)
    if as_json:
        click.echo(json.dumps(imatrix_screen.document(summary), indent=2))
    else:
        imatrix_screen.show(Console(), summary)


def _chunk_size(n_ctx: int | None) -> int:
    if n_ctx is None:
        return calibration.DEFAULT_CHUNK_SIZE
    if n_ctx < _LEAST_CHUNK:
        raise ImatrixError(
            f"-c {n_ctx}: a chunk needs at least {_LEAST_CHUNK} tokens; 512 is usual"
        )
    return n_ctx


def _default_output(source: Path) -> Path:
    name = folder_name(source.resolve() if source.is_dir() else source)
    return Path(f"{model_name(Path(name))}-imatrix.gguf")


def _check_second_moments(path: Path, out: Path, *, all_experts: bool, overwrite: bool) -> None:
    if all_experts:
        raise click.UsageError("--all-experts cannot be combined with --second-moments")
    if path.resolve() == out.resolve():
        raise click.UsageError(f"-o and --second-moments name the same file, {out}")
    _refuse_early(path, "--second-moments", overwrite=overwrite)


def _refuse_early(out: Path, option: str, *, overwrite: bool) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file with {option}")
    if not out.parent.is_dir():
        raise OutputError(f"{out}: there is no folder {out.parent}; create it first")
    if out.exists() and not overwrite:
        raise OutputError(
            f"{out}: already exists; choose another with {option}, or add --overwrite"
        )
