"""`franken-gguf inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.runner import ui_inspect
from franken_gguf.runner.inspect import summarize

from .parameters import FILE


@click.command()
@click.argument("model", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(model: Path, as_json: bool) -> None:
    """Say what a GGUF file holds, from its header alone."""
    summary = summarize(read_header(model))
    if as_json:
        click.echo(json.dumps(asdict(summary), indent=2))
    else:
        ui_inspect.show_summary(Console(), summary)
