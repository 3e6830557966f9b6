"""The command line: every verb's words, and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.quantize.recipe import find_type

from . import ui_inspect
from .inspect import summarize
from .terminal import printable

_FILE = click.Path(path_type=Path)


class _Verbs(click.Group):
    """Turns what a user can cause into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FrankenError as error:
            raise click.ClickException(printable(str(error))) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(printable(f"{where}{error.strerror or error}")) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="franken-gguf")
def main() -> None:
    """Merged mixture-of-experts checkpoints to GGUF, and a chat to run them."""


def _tensor_types(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Any], ...]:
    pairs = [value.rpartition("=") for value in values]
    if any(not pattern for pattern, _, _ in pairs):
        raise click.BadParameter("write it as REGEX=TYPE, for example ffn_down=Q6_K")
    return tuple((pattern, find_type(name)) for pattern, _, name in pairs)


@main.command()
@click.argument("model", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(model: Path, as_json: bool) -> None:
    """Say what a GGUF file holds, from its header alone."""
    summary = summarize(read_header(model))
    if as_json:
        click.echo(json.dumps(asdict(summary), indent=2))
    else:
        ui_inspect.show_summary(Console(), summary)
