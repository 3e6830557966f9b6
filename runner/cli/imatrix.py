"""`franken-gguf imatrix`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.common.errors import ImatrixError, OutputError
from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.gguf_file.split_files import joined, model_name
from franken_gguf.quantize.hub.hub_cache import folder_name
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.tensor_types.imatrix_file import write_imatrix
from franken_gguf.quantize.tensor_types.second_moments import write_second_moments
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
from franken_gguf.runner.common.hardware import cores
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.temporary_gguf import converted
from franken_gguf.runner.engine.this_machine import this_machine, with_vram
from franken_gguf.runner.imatrix import calibrate as calibration
from franken_gguf.runner.imatrix.collect import open_collector
from franken_gguf.runner.imatrix.texts import BUILT_IN, Render, built_in_text, plainly, read_text
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.prompt.template import Template, special_tokens, stored_template
from franken_gguf.runner.ui import imatrix_screen
from franken_gguf.runner.ui.convert_screen import say

from .hub_names import hub_names
from .router_prep import base_type_option, route

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
    name = folder_name(source.resolve() if source.is_dir() else source)
    out = out or Path(f"{model_name(Path(name))}-imatrix.gguf")
    _refuse_early(out, "-o", overwrite=overwrite)
    if second_moments:
        if all_experts:
            raise click.UsageError("--all-experts cannot be combined with --second-moments")
        if second_moments.resolve() == out.resolve():
            raise click.UsageError(f"-o and --second-moments name the same file, {out}")
        _refuse_early(second_moments, "--second-moments", overwrite=overwrite)
    given = [calibration.Text(str(path), read_text(path), parse_special) for path in texts]
    options = LoadOptions(**vars(placement), n_threads=n_threads)
    with ExitStack() as resources:
        resources.enter_context(calibration.locked(out))
        header = resources.enter_context(
            _runnable(source, out.parent, base_type, n_threads, notices)
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
        read = given or [_own_text(header, chat_template)]
        kept, held = calibration.text_chunks(read, collector.engine.vocabulary, settings)
        with imatrix_screen.progress(notices, len(kept), settings) as report:
            try:
                result = calibration.calibrate(collector, kept, settings, out, report)
            except KeyboardInterrupt as interrupt:
                interrupt.args = ("Interrupted; run the same command to resume.",)
                raise
        legacy = (file_format or out.suffix.lower().lstrip(".")) == "dat"
        content = calibration.finished(result, read, settings)
        if second_moments and collector.moments:
            write_second_moments(
                second_moments,
                collector.moments.weights,
                chunks=content.chunks,
                chunk_size=content.chunk_size,
                datasets=content.datasets,
            )
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


def _refuse_early(out: Path, option: str, *, overwrite: bool) -> None:
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; name a file with {option}")
    if not out.parent.is_dir():
        raise OutputError(f"{out}: there is no folder {out.parent}; create it first")
    if out.exists() and not overwrite:
        raise OutputError(
            f"{out}: already exists; choose another with {option}, or add --overwrite"
        )


@contextmanager
def _runnable(
    source: Path, folder: Path, base_type: Preset, threads: int | None, notices: Console
) -> Iterator[Header]:
    """The header of a GGUF file of the source, for a folder or a recipe a temporary one."""
    if source.is_file() and source.suffix.lower() not in (".yml", ".yaml"):
        yield read_header(source)
        return
    model = open_source(source)
    route(model, folder, notices, base_type=base_type, threads=threads)
    say(notices, f"converting {source} to {base_type.name} in a temporary file")
    with converted(model, folder, base_type, threads or cores()) as header:
        yield header


def _own_text(header: Header, chat_template: bool) -> calibration.Text:
    if not chat_template:
        return calibration.Text(BUILT_IN, built_in_text(plainly))
    with Template(stored_template(header), special_tokens(header)) as template:
        render: Render = partial(template.render, add_generation_prompt=False)
        return calibration.Text(BUILT_IN, built_in_text(render), parses_special=True)
