"""`franken-gguf compare`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize import convert as pipeline
from franken_gguf.quantize.output import Output
from franken_gguf.quantize.presets import find_preset
from franken_gguf.quantize.source import Source, open_source
from franken_gguf.runner import ui_compare, ui_convert
from franken_gguf.runner.compare.candidates import choose_baseline, read_candidates
from franken_gguf.runner.compare.compare import Request
from franken_gguf.runner.compare.compare import compare as run
from franken_gguf.runner.compare.document import Comparison, Settings, as_json
from franken_gguf.runner.compare.page import page
from franken_gguf.runner.compare.quants import quants
from franken_gguf.runner.compare.questions import BUILT_IN, question
from franken_gguf.runner.compare.scoring import CHUNK, N_OUTPUTS
from franken_gguf.runner.compare.table_csv import as_csv
from franken_gguf.runner.compare.tasks import CompareError
from franken_gguf.runner.compare.workspace import cache_folder, replacing
from franken_gguf.runner.devices import default_threads
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.token_check import check_tokens
from franken_gguf.runner.meter import Meter
from franken_gguf.runner.ui_progress import conversion_progress

from .parameters import FILE
from .placement import placement_options
from .routing import route

_MAX_TEXT_BYTES = 1 << 28
_STANDARD_OUTPUT = Path("-")

Reports = Mapping[Path, Callable[[Comparison], str]]


@click.command()
@click.argument("models", type=FILE, nargs=-1, metavar="[MODEL]...")
@click.option("--source", type=FILE, help="Compare quants of this checkpoint; -q names them.")
@click.option("-q", "types", metavar="TYPE", multiple=True, help="A quant of --source; repeat it.")
@click.option(
    "--baseline",
    metavar="TYPE|FILE",
    help="Hold the rest against this.  [default: the largest]",
)
@click.option(
    "--prompt",
    "prompts",
    metavar="NAME|@FILE|TEXT",
    multiple=True,
    help=f"Ask this; repeat it.  [default: {' '.join(BUILT_IN)}]",
)
@click.option("--no-prompts", is_flag=True, help="Ask nothing, score --text alone.")
@click.option("--text", type=FILE, help="Score this text, as llama-perplexity does.")
@click.option(
    "--chunks",
    type=click.IntRange(1),
    metavar="N",
    default=16,
    show_default=True,
    help=f"So many chunks of the text, {CHUNK} tokens each.",
)
@click.option(
    "-n",
    "--predict",
    "max_tokens",
    type=click.IntRange(1, N_OUTPUTS - 1),
    metavar="N",
    default=128,
    show_default=True,
    help="Tokens of an answer at most.",
)
@click.option(
    "--samples",
    type=click.IntRange(0, 1000),
    metavar="N",
    default=8,
    show_default=True,
    help="Answers that are drawn for each prompt.",
)
@click.option(
    "--temp",
    "temperature",
    type=click.FloatRange(0, 10),
    default=0.8,
    show_default=True,
    help="They are drawn at this temperature.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31), default=1, show_default=True, help="The first one's."
)
@click.option(
    "-t", "--threads", type=click.IntRange(1, 512), metavar="N", help="[default: one for each core]"
)
@placement_options
@click.option(
    "--json",
    "json_file",
    type=FILE,
    metavar="[OUT.json]",
    is_flag=False,
    flag_value=_STANDARD_OUTPUT,
    help="Write all of it as JSON; without a name, to standard output.",
)
@click.option(
    "--csv", "csv_file", type=FILE, metavar="OUT.csv", help="Write a table, a row a model."
)
@click.option(
    "--report", type=FILE, metavar="OUT.html", help="Write a page with plots, in one file."
)
@click.option("--overwrite", is_flag=True, help="Replace reports that exist.")
@click.option("--cache", type=FILE, metavar="DIR", help="Keep files and results here.")
def compare(
    models: tuple[Path, ...],
    source: Path | None,
    types: tuple[str, ...],
    baseline: str | None,
    prompts: tuple[str, ...],
    no_prompts: bool,
    text: Path | None,
    chunks: int,
    max_tokens: int,
    samples: int,
    temperature: float,
    seed: int,
    threads: int | None,
    wishes: dict[str, Any],
    vram: tuple[int, ...] | None,
    rpc: tuple[str, ...],
    json_file: Path | None,
    csv_file: Path | None,
    report: Path | None,
    overwrite: bool,
    cache: Path | None,
) -> None:
    """Say which quant of a model still answers like the full one.

    MODEL is a GGUF file. What is measured: what answers lean to, where they leave the baseline's,
    perplexity and KL divergence as llama-perplexity defines them, which experts the router
    chooses, variety, speed and memory. The models run one after another. An interrupted comparison
    goes on where it was when the same command is given again.
    """
    _check_usage(models, source, types, no_prompts, text is not None)
    asked_for = ((json_file, _document), (csv_file, as_csv), (report, page))
    reports = {path: content for path, content in asked_for if path}
    if len(reports) < sum(path is not None for path, _ in asked_for):
        raise click.UsageError("--json, --csv and --report want a file each")
    _check_reports(reports, overwrite)
    asked = () if no_prompts else tuple(question(one) for one in prompts or BUILT_IN)
    settings = Settings(
        samples=samples,
        temperature=temperature,
        seed=seed,
        max_tokens=max_tokens,
        threads=threads or default_threads(),
        text=text.name if text else "",
        chunks=chunks if text else 0,
        chunk_tokens=CHUNK,
    )
    words = _read_text(text) if text else ""
    notices = Console(stderr=True, highlight=False)
    cache = cache or cache_folder()
    files = _converted(source, types, cache, settings.threads, notices) if source else models
    candidates = read_candidates(files)
    request = Request(
        tuple(candidates),
        choose_baseline(candidates, baseline),
        asked,
        words,
        settings,
        LoadOptions(**wishes),
        vram,
        rpc,
    )
    try:
        with ui_compare.watching(notices, len(candidates)) as listener:
            found = run(request, cache, listener)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("Interrupted; the same command goes on from there.",)
        raise
    _write_reports(reports, found, notices)
    if json_file != _STANDARD_OUTPUT:
        ui_compare.show(Console(), found)


def _check_usage(
    models: Sequence[Path], source: Path | None, types: Sequence[str], no_prompts: bool, text: bool
) -> None:
    if source and (models or not types):
        raise click.UsageError("--source wants its quants, -q TYPE, and no MODEL beside it")
    if not source and (types or not models):
        raise click.UsageError("name the MODELs to compare, or --source CHECKPOINT -q TYPE")
    if no_prompts and not text:
        raise click.UsageError("--no-prompts leaves nothing to do: give --text FILE")


def _check_reports(reports: Reports, overwrite: bool) -> None:
    """Before hours of work, not after."""
    for path in reports:
        if path == _STANDARD_OUTPUT:
            continue
        if path.exists() and not overwrite:
            raise CompareError(f"{path}: is there already; --overwrite replaces it")
        if path.is_dir() or not path.parent.is_dir():
            raise CompareError(f"{path}: its folder is not there, or it is one itself")


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise CompareError(f"{path}: is larger than {_MAX_TEXT_BYTES >> 20} MiB; take a part of it")
    if not data.strip():
        raise CompareError(f"{path}: is empty; there is nothing to score")
    return data.decode(errors="replace")


def _converted(
    path: Path, types: Sequence[str], cache: Path, threads: int, notices: Console
) -> list[Path]:
    source = open_source(path)
    presets = list(dict.fromkeys(find_preset(name) for name in types))
    return quants(source, presets, cache, partial(_convert, path, source, threads, notices))


def _convert(
    path: Path, source: Source, threads: int, notices: Console, outputs: list[Output]
) -> None:
    if source.tokenizer_folder:
        check_tokens(source.tokenizer_folder, source.metadata)
    route(source, outputs[0].path.parent, notices)
    meter = Meter(source, outputs)
    with conversion_progress(notices, meter) as progress:
        pipeline.convert(
            source, outputs, threads=threads, report=progress, say=partial(ui_convert.say, notices)
        )
    folder = outputs[0].path.parent.parent
    ui_convert.say(notices, f"the converted files stay in {folder} for the next time")


def _document(comparison: Comparison) -> str:
    return json.dumps(as_json(comparison), indent=2, ensure_ascii=False) + "\n"


def _write_reports(reports: Reports, comparison: Comparison, notices: Console) -> None:
    for path, content in reports.items():
        if path == _STANDARD_OUTPUT:
            click.echo(content(comparison), nl=False)
        else:
            with replacing(path) as part:
                part.write_text(content(comparison), encoding="utf-8", errors="backslashreplace")
            ui_convert.say(notices, f"written: {path}")
