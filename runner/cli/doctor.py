"""`franken-gguf doctor`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console

from franken_gguf.runner.cli.options.option_groups import Command
from franken_gguf.runner.cli.options.output_options import json_option
from franken_gguf.runner.doctor.report import checkup
from franken_gguf.runner.ui import doctor_screen


@click.command(cls=Command)
@json_option(what="findings")
def doctor(as_json: bool) -> None:
    """Show what llama.cpp sees on this machine.

    Its build, the devices and memory that it can use, and GPUs that it cannot.
    """
    found = checkup()
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        doctor_screen.show_checkup(Console(), found)
