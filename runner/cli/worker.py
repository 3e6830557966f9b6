"""`franken-gguf worker`."""

from __future__ import annotations

import ipaddress
import signal

import click

from franken_gguf.quantize.common.signals import ENDINGS
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.placement_options import threads_option
from franken_gguf.runner.common.hardware import default_threads
from franken_gguf.runner.engine import rpc

WARNING = (
    "Anyone who reaches this port can use this machine's memory and crash the worker: there is no "
    "authentication and no encryption. Use it only in a network where you trust everyone."
)


@click.command(cls=Command)
@option("-H", "--host", metavar="ADDRESS", default="127.0.0.1", help="Address to listen on.")
@option(
    "-p",
    "--port",
    type=click.IntRange(1, (1 << 16) - 1),
    metavar="N",
    default=rpc.DEFAULT_PORT,
    help="Port to listen on.",
)
@option("--public", is_flag=True, help="Allow a --host that other machines can reach.")
@threads_option("")
def worker(host: str, port: int, public: bool, n_threads: int | None) -> None:
    """Lend this machine's memory to another one.

    The other machine runs `franken-gguf chat --rpc HOST:PORT`, which places layers here: on the
    GPU if there is one, else on the CPU. This is llama.cpp's RPC server. It has no authentication,
    so a --host that other machines can reach needs --public as well.
    """
    if not _is_loopback(host):
        if not public:
            raise click.UsageError(
                f"{host} is not a loopback address; --public allows it. {WARNING}"
            )
        click.echo(f"Warning: {WARNING}", err=True)
    # Python's handlers would run only after llama.cpp's server returns, which it never does.
    for number in (signal.SIGINT, *ENDINGS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    rpc.serve(host, port, n_threads or default_threads())


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
