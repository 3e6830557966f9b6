"""`franken-gguf merge`."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from franken_gguf.quantize.merge.expert_layout import LAYOUTS, PER_EXPERT
from franken_gguf.quantize.merge.merged_checkpoint import (
    DEFAULT_SHARD_BYTES,
    plan_checkpoint,
    write_checkpoint,
)
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.merge.staging_dir import pending_folder
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.types import FILE, MODEL, size
from franken_gguf.runner.engine.llama_tokenizer_check import check_tokens
from franken_gguf.runner.terminal.text import printable

from .hub_names import hub_names
from .router_prep import base_type_option, route


@click.command(cls=Command)
@click.argument("recipe", type=MODEL, metavar="RECIPE.yml")
@click.argument("folder", type=FILE, metavar="OUT_DIR")
@option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default=PER_EXPERT,
    help="How experts are stored: one tensor each, or all in one as transformers 5 saves them.",
)
@option(
    "--max-shard-size",
    type=size,
    metavar="SIZE",
    default=f"{DEFAULT_SHARD_BYTES // 1000**3}GB",
    help="Largest size of a weights file.",
)
@base_type_option()
@hub_names(sources=["recipe"])
def merge(recipe: Path, folder: Path, layout: str, max_shard_size: int, base_type: Preset) -> None:
    """Merge models into a Hugging Face checkpoint.

    RECIPE.yml is a mergekit-moe recipe; OUT_DIR must be new or empty. For GGUF files, convert the
    recipe instead: that needs no checkpoint in between.
    """
    source = merge_source(recipe)
    name = Path(os.path.realpath(folder)).name
    plan = plan_checkpoint(source, name, layout, max_shard_size)
    notices = Console(stderr=True, highlight=False)
    check_tokens(source.base_folder, source.metadata)
    columns = "merging", BarColumn(), DownloadColumn(), TimeRemainingColumn()
    quiet = not notices.is_terminal
    with pending_folder(folder, plan.nbytes) as files:
        route(source, files, notices, base_type=base_type)
        with Progress(*columns, console=notices, transient=True, disable=quiet) as progress:
            task = progress.add_task("", total=plan.nbytes)
            write_checkpoint(plan, files, lambda nbytes: progress.advance(task, nbytes))
    click.echo(printable(str(folder)))
