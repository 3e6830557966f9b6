"""The command line: its verbs, one file each, and how all of them handle errors and signals."""

from __future__ import annotations

import atexit
import signal
import time
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

import click

from franken_gguf.quantize.common.errors import FrankenError, did_you_mean
from franken_gguf.quantize.common.signals import ENDINGS
from franken_gguf.runner.terminal.text import printable

_VERBS = (
    *("chat", "compare", "convert", "doctor", "fit", "imatrix"),
    *("inspect", "merge", "plan", "retrain-router", "serve", "worker"),
)

_OTHER_NAMES = {
    "quantize": "convert",
    "create": "convert",
    "run": "chat",
    "cli": "chat",
    "perplexity": "compare",
    "show": "inspect",
    "server": "serve",
    "rpc-server": "worker",
}
"""What llama.cpp and ollama call these verbs."""

# A second signal within this time counts as the same one.
_ONCE_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """A signal of `ENDINGS` arrived: handled like Ctrl-C, apart from the exit status."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Verbs(click.Group):
    """Reports every error that a user can cause in one line, with an exit status.

    A verb's module is imported when the verb is called, so that converting and its worker
    processes, which import this module too, start without llama.cpp.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"{__name__}.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with whole sentences, wrapped where click would cut them off."""
        commands = [(name, self.get_command(ctx, name)) for name in _VERBS]
        rows = [(name, one.get_short_help_str(formatter.width)) for name, one in commands if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not (name in _VERBS or name.startswith("-") or ctx.resilient_parsing):
            hint = did_you_mean(_OTHER_NAMES.get(name, name), _VERBS)
            hint = hint or f"the commands are {', '.join(_VERBS)}"
            ctx.fail(f"no command {printable(name)!r}; {hint}")
        return super().resolve_command(ctx, args)

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
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # the terminal may be gone
                click.echo(printable(str(interrupt)) or "Interrupted.", err=True)
            number = interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT
            ctx.exit(128 + number)


def endings_raise() -> None:
    """From now on Ctrl-C and the signals of `ENDINGS` raise in the main thread.

    A signal that is ignored, as under nohup, stays ignored. When the interpreter ends, all are:
    it would restore their default, which kills, while it still has work to do.
    """
    last = float("-inf")

    def terminate(number: int, _: FrameType | None) -> None:
        nonlocal last
        # A signal to the whole process group arrives again from the supervisor: the second one
        # must not interrupt the clean-up after the first.
        if time.monotonic() - last > _ONCE_SECONDS:
            last = time.monotonic()
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    for number in (signal.SIGINT, *ENDINGS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, terminate)
            atexit.register(signal.signal, number, signal.SIG_IGN)


_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "show_default": True,
    "max_content_width": 100,
}
_STATUSES = """Exit status: 0 done, 1 an error, 2 wrong usage, 130 interrupted (Ctrl-C), 143 and 129
ended by SIGTERM or SIGHUP, 139, 134 and 137 crashed (SIGSEGV, SIGABRT) or killed (SIGKILL)."""


@click.group(cls=_Verbs, context_settings=_SETTINGS, epilog=_STATUSES)
@click.version_option(package_name="franken-gguf")
def main() -> None:
    """Convert mixture-of-experts models to GGUF, compare the quants, and chat with them."""
