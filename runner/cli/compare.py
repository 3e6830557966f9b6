"""`franken-gguf compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.runner.cli.options.completion import quant_types
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.output_options import overwrite_option
from franken_gguf.runner.cli.options.placement_options import (
    placement_options,
    threads_option,
)
from franken_gguf.runner.cli.options.types import FILE, MODEL
from franken_gguf.runner.common.hardware import default_threads
from franken_gguf.runner.compare.candidates import (
    check_expert_names,
    choose_baseline,
    read_candidates,
)
from franken_gguf.runner.compare.compare import Request
from franken_gguf.runner.compare.compare import compare as run
from franken_gguf.runner.compare.measure.questions import BUILT_IN, QUICK, question
from franken_gguf.runner.compare.measure.scoring import CHUNK, N_OUTPUTS
from franken_gguf.runner.compare.measure.tasks import CompareError
from franken_gguf.runner.compare.measure.workspace import cache_folder
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.ui import compare_screen

from .compare_reports import STANDARD_OUTPUT, planned_reports, write_reports
from .compare_sources import converted
from .compare_votes import votes_between
from .hub_names import hub_names

_MAX_TEXT_BYTES = 1 << 28
_QUICK_TOKENS, _THOROUGH_TOKENS = 48, 128
_MODELS, _PROMPTS, _OUTPUT = "Models", "Prompts and text", "Output"


@click.command(cls=Command)
@click.argument("models", type=MODEL, nargs=-1, metavar="[MODEL]...")
@option(
    "--source",
    group=_MODELS,
    type=MODEL,
    metavar="SOURCE",
    help="Convert this checkpoint or recipe to the quants of -q, and compare those.",
)
@option(
    "-q",
    "types",
    group=_MODELS,
    metavar="TYPE",
    multiple=True,
    shell_complete=quant_types,
    help="Quant of --source to compare. Repeatable.",
)
@option(
    "--baseline",
    group=_MODELS,
    metavar="TYPE|FILE",
    show_default="the largest",
    shell_complete=FILE.shell_complete,
    help="Baseline model: the others are compared with it.",
)
@option(
    "--expert-names",
    group=_MODELS,
    metavar="A,B,...",
    show_default="the recipe's",
    help="Names of the experts, in their order, for tables and reports.",
)
@option(
    "--prompt",
    "prompts",
    group=_PROMPTS,
    metavar="NAME|@FILE|TEXT",
    multiple=True,
    show_default=" ".join(QUICK),
    help="Prompt to answer: a built-in one by name, a file's, or a text. Repeatable.",
)
@option(
    "--thorough",
    group=_PROMPTS,
    is_flag=True,
    help=f"Answer all {len(BUILT_IN)} built-in prompts, at greater length: {' '.join(BUILT_IN)}.",
)
@option(
    "--votes",
    group=_PROMPTS,
    type=FILE,
    metavar="FILE",
    show_default="those of this user, if any",
    help="Blind choices between these models, as saved by 'serve --compare-with'.",
)
@option("--no-prompts", group=_PROMPTS, is_flag=True, help="Answer no prompts; only score --text.")
@option(
    "--text",
    group=_PROMPTS,
    type=FILE,
    metavar="FILE",
    help="Text to measure perplexity and KL divergence on, as llama-perplexity does.",
)
@option(
    "--chunks",
    group=_PROMPTS,
    type=click.IntRange(1),
    metavar="N",
    default=16,
    help=f"Number of {CHUNK}-token chunks of the text to score.",
)
@option(
    "-n",
    "--predict",
    "max_tokens",
    group=_PROMPTS,
    type=click.IntRange(1, N_OUTPUTS - 1),
    metavar="N",
    show_default="48, with --thorough 128",
    help="Longest answer in tokens.",
)
@option(
    "--samples",
    group=_PROMPTS,
    type=click.IntRange(0, 1000),
    metavar="N",
    default=32,
    help="Number of answers sampled for each prompt, besides the greedy one.",
)
@option(
    "--temp",
    "temperature",
    group=_PROMPTS,
    type=click.FloatRange(0, 10),
    metavar="N",
    default=0.8,
    help="Temperature of the samples.",
)
@option(
    "--seed",
    group=_PROMPTS,
    type=click.IntRange(0, 2**31),
    metavar="N",
    default=1,
    help="Seed of the first sample.",
)
@placement_options("as long as the prompts and answers need")
@threads_option()
@option(
    "--json",
    "json_file",
    group=_OUTPUT,
    type=FILE,
    metavar="[OUT.json]",
    is_flag=False,
    flag_value=STANDARD_OUTPUT,
    help="Write everything measured as JSON; without a file name, to standard output.",
)
@option(
    "--csv",
    "csv_file",
    group=_OUTPUT,
    type=FILE,
    metavar="OUT.csv",
    help="Write a table with one row per model.",
)
@option(
    "--report",
    group=_OUTPUT,
    type=FILE,
    metavar="OUT.html",
    help="Write a self-contained HTML page with plots.",
)
@overwrite_option(_OUTPUT)
@option(
    "--cache",
    group=_OUTPUT,
    type=FILE,
    metavar="DIR",
    show_default="the user's cache folder",
    help="Keep converted files and results in this folder, to resume from.",
)
@hub_names(models=["models", "baseline"], sources=["source"], group=_MODELS)
def compare(
    models: tuple[Path, ...],
    source: Path | None,
    types: tuple[str, ...],
    baseline: Path | None,
    expert_names: str | None,
    prompts: tuple[str, ...],
    thorough: bool,
    no_prompts: bool,
    votes: Path | None,
    text: Path | None,
    chunks: int,
    max_tokens: int | None,
    samples: int,
    temperature: float,
    seed: int,
    n_threads: int | None,
    placement: PlacementOptions,
    vram: tuple[int, ...] | None,
    rpc: tuple[str, ...],
    json_file: Path | None,
    csv_file: Path | None,
    report: Path | None,
    overwrite: bool,
    cache: Path | None,
) -> None:
    """Compare quants of a model with its baseline.

    Each MODEL is a GGUF file; or convert a --source to several quants and compare those. It
    measures which way answers lean and where they diverge from the baseline's, perplexity and KL
    divergence as llama-perplexity defines them, which experts the router chooses, variety of words,
    speed and memory.

    The models run one after another. To resume an interrupted comparison, run the same command.
    """
    _check_usage(models, source, types, no_prompts, text is not None)
    reports = planned_reports(json_file, csv_file, report, overwrite=overwrite)
    default_prompts = BUILT_IN if thorough else QUICK
    questions = () if no_prompts else tuple(question(one) for one in prompts or default_prompts)
    settings = Settings(
        samples=samples,
        temperature=temperature,
        seed=seed,
        max_tokens=max_tokens or (_THOROUGH_TOKENS if thorough else _QUICK_TOKENS),
        threads=n_threads or default_threads(),
        text=text.name if text else "",
        chunks=chunks if text else 0,
        chunk_tokens=CHUNK,
    )
    text_to_score = _read_text(text) if text else ""
    notices = Console(stderr=True, highlight=False)
    cache = cache or cache_folder()
    files: Sequence[Path] = models
    names: tuple[str, ...] = ()
    if source:
        files, names = converted(source, types, cache, settings.threads, notices)
    candidates = read_candidates(files)
    request = Request(
        tuple(candidates),
        choose_baseline(candidates, str(baseline) if baseline else None),
        questions,
        text_to_score,
        settings,
        LoadOptions(**vars(placement)),
        vram,
        rpc,
        check_expert_names(candidates[0], expert_names) if expert_names else names,
        votes_between(candidates, votes, notices),
    )
    try:
        with compare_screen.watching(notices, len(candidates)) as listener:
            comparison = run(request, cache, listener)
    except KeyboardInterrupt as interrupt:
        interrupt.args = ("Interrupted; run the same command to resume.",)
        raise
    write_reports(reports, comparison, notices)
    if json_file != STANDARD_OUTPUT:
        compare_screen.show(Console(), comparison)


def _check_usage(
    models: Sequence[Path], source: Path | None, types: Sequence[str], no_prompts: bool, text: bool
) -> None:
    if source and (models or not types):
        raise click.UsageError("--source needs at least one -q TYPE, and no MODEL")
    if not source and (types or not models):
        raise click.UsageError(
            "nothing to compare; give one or more MODELs, or --source SOURCE -q TYPE"
        )
    if no_prompts and not text:
        raise click.UsageError("--no-prompts leaves nothing to measure; give --text FILE")


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise CompareError(f"{path}: is larger than {_MAX_TEXT_BYTES >> 20} MiB; give a part of it")
    if not data.strip():
        raise CompareError(f"{path}: is empty; give a text to score")
    return data.decode(errors="replace")
