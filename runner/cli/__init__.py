"""The command line: its verbs, a file each, and what all of them do with errors."""

from __future__ import annotations

from typing import Any

import click

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.runner.terminal import printable

from .chat import chat
from .convert import convert
from .inspect import inspect


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


for verb in (convert, inspect, chat):
    main.add_command(verb)
