"""`franken-gguf retrain-router`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.retrained_file import check_output, write_retrained
from franken_gguf.quantize.router_training.train import DEFAULT_STEPS
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.output_options import (
    json_option,
    output_option,
    overwrite_option,
)
from franken_gguf.runner.cli.options.types import FILE, MODEL
from franken_gguf.runner.terminal.text import printable
from franken_gguf.runner.ui import router_screen

from .hub_names import hub_names
from .router_training import trained_router

_TEXT, _OUTPUT = "Training", "Output"


@click.command("retrain-router", cls=Command)
@click.argument("model", type=MODEL, metavar="MODEL.gguf")
@option(
    "--text",
    "texts",
    group=_TEXT,
    type=FILE,
    metavar="FILE",
    multiple=True,
    show_default="the built-in set alone",
    help=(
        "Text to train on, in UTF-8, in addition to the built-in set. Repeatable: give one for "
        "each kind of text that an expert is for."
    ),
)
@option(
    "--steps",
    group=_TEXT,
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=DEFAULT_STEPS,
    help="Steps of 512 tokens.",
)
@output_option(_OUTPUT, "<name>-retrained.gguf in the current folder")
@overwrite_option(_OUTPUT)
@json_option(_OUTPUT)
@hub_names(models=["model"])
def retrain_router(
    model: Path,
    texts: tuple[Path, ...],
    steps: int,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train the router of a finished mixture.

    MODEL.gguf is a mixture of experts. Its router is trained on text, which takes minutes for
    small models and needs no GPU, and written into a copy of the file in which nothing else
    changes. Text that is not trained on decides: if it is not predicted better, nothing is written.
    To resume an interrupted run, run the same command again.
    """
    notices = Console(stderr=True, highlight=False)
    header = read_header(model)
    out = out or Path(f"{model.stem}-retrained.gguf")
    check_output(header, out, overwrite=overwrite)
    with trained_router(header, texts, steps, out.parent, notices) as found:
        trained, names = found.trained, found.names
        if trained.gain > 0:
            check_output(header, out, overwrite=overwrite)
            write_retrained(header, trained.rows, out, found.kept.copy)
    if as_json:
        click.echo(json.dumps(router_screen.document(out, names, trained), indent=2))
    else:
        for line in router_screen.lines(names, trained):
            click.echo(printable(line))
    if trained.gain <= 0:
        raise OutputError(
            f"{out}: not written, because the trained router does not predict the held-out text "
            "better; give more text of the kinds that the experts are for, or more --steps"
        )
    if not as_json:
        click.echo(printable(str(out)))
