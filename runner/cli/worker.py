"""`franken-gguf worker`."""

from __future__ import annotations

import ipaddress
import signal

import click

from franken_gguf.quantize.signals import ENDINGS
from franken_gguf.runner.devices import default_threads
from franken_gguf.runner.engine import rpc

WARNING = (
    "Anyone who reaches this port can use this machine's memory and crash the worker: there is no "
    "authentication and no encryption. Keep it in a network where you trust everybody."
)


@click.command()
@click.option("-H", "--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "-p",
    "--port",
    type=click.IntRange(1, (1 << 16) - 1),
    default=rpc.DEFAULT_PORT,
    show_default=True,
    help="Port to listen on.",
)
@click.option("--public", is_flag=True, help="Allow an address that other machines reach.")
@click.option(
    "-t",
    "--threads",
    "n_threads",
    type=click.IntRange(1, 512),
    metavar="N",
    help="[default: one for each core]",
)
def worker(host: str, port: int, public: bool, n_threads: int | None) -> None:
    """Lend this machine's memory and cores to another that runs chat --rpc HOST:PORT.

    llama.cpp's own RPC backend, on loopback unless --public says otherwise.
    """
    if not _is_loopback(host):
        if not public:
            raise click.UsageError(f"{host} is not loopback; --public allows it. {WARNING}")
        click.echo(f"Warning: {WARNING}", err=True)
    # Handlers of Python's would wait for llama.cpp to return, which it does not.
    for number in (signal.SIGINT, *ENDINGS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    rpc.serve(host, port, n_threads or default_threads())


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
