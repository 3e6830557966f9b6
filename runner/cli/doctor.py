"""`franken-gguf doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console

from franken_gguf.runner import ui_doctor
from franken_gguf.runner.checkup import checkup


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(as_json: bool) -> None:
    """Say what llama.cpp was built with, which devices and memory it sees, and what it misses."""
    found = checkup()
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        ui_doctor.show_checkup(Console(), found)
