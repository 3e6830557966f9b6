"""The command line: its verbs, a file each, and what all of them do with errors."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.runner.terminal import printable

VERBS = ("convert", "inspect", "chat")
"""Each a command of its own name in a module of its own name, imported when it is called."""


class _Verbs(click.Group):
    """Turns what a user can cause into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f".{cmd_name}", __name__), cmd_name)
        return command

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
