"""`franken-gguf serve`: its options, as `ServeArguments` for runner/cli/serve_run.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli.options.answer_options import (
    check_expert_names,
    expert_names_option,
    predict_option,
    system_option,
)
from franken_gguf.runner.cli.options.chat_arguments import (
    SamplingArguments,
    ServeArguments,
    StoryArguments,
)
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.placement_options import (
    MODEL_GROUP,
    placement_options,
    threads_option,
)
from franken_gguf.runner.cli.options.sampling_options import sampling_options
from franken_gguf.runner.cli.options.story_options import story_options
from franken_gguf.runner.cli.options.types import FILE, MODEL, size
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.terminal.standard_input import clean

from .hub_names import hub_names

_server = partial(option, group="Server")
_ANSWERS = "Answers"
_answers = partial(option, group=_ANSWERS)
_MAX_KEY = 1 << 10


@click.command(cls=Command)
@click.argument("model", type=MODEL)
@_server("--host", metavar="ADDRESS", default="127.0.0.1", help="Address to listen on.")
@_server(
    "--port",
    type=click.IntRange(0, (1 << 16) - 1),
    metavar="N",
    default=8080,
    help="Port to listen on; 0 is any free one.",
)
@_server(
    "--api-key",
    metavar="KEY",
    envvar="FRANKEN_GGUF_API_KEY",
    default="",
    show_default="none; one is generated and printed if --host lets others in",
    help="Key that clients must send. Other users of this machine can see it in the process list.",
)
@_server("--api-key-file", type=FILE, metavar="FILE", help="Read the key from a file.")
@_server("--ssl-cert-file", type=FILE, metavar="FILE", help="Serve HTTPS with this certificate.")
@_server("--ssl-key-file", type=FILE, metavar="FILE", help="The certificate's private key.")
@_server(
    "-a",
    "--alias",
    metavar="NAME",
    default="",
    show_default="the file's name",
    help="What clients call the model.",
)
@_server(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="Another name by which clients may address this machine. Repeatable.",
)
@_server(
    "--origin",
    "origins",
    metavar="URL",
    multiple=True,
    help="Let web pages of this origin use the server, as in https://example.org. Repeatable.",
)
@_server(
    "--cache-ram",
    type=size,
    metavar="SIZE",
    default="1GiB",
    help="RAM for evaluated contexts, so that switching between chats is fast; 0 keeps none.",
)
@_server(
    "--cache-disk",
    type=size,
    metavar="SIZE",
    default="4GiB",
    help="Disk space for evaluated contexts, which survive a restart; 0 keeps none.",
)
@_answers(
    "--compare-with",
    "second",
    type=MODEL,
    metavar="MODEL",
    show_default="none",
    help="Load this model too, for blind comparisons of both on the page.",
)
@system_option(_ANSWERS, "System prompt of new stories.")
@predict_option(_ANSWERS, "Longest answer in tokens, whatever a client asks for; -1 is no limit.")
@_answers(
    "--summarize",
    is_flag=True,
    help="Let the model summarize turns that leave the context, and keep the summary in it.",
)
@_answers(
    "--experts",
    is_flag=True,
    help="Send which experts wrote each token of a story. About 10 % slower.",
)
@expert_names_option(_ANSWERS)
@placement_options()
@threads_option()
@sampling_options
@story_options
@hub_names(models=["model", "second"], group=MODEL_GROUP)
def serve(
    model: Path,
    second: Path | None,
    host: str,
    port: int,
    api_key: str,
    api_key_file: Path | None,
    ssl_cert_file: Path | None,
    ssl_key_file: Path | None,
    alias: str,
    allowed_hosts: tuple[str, ...],
    origins: tuple[str, ...],
    cache_ram: int,
    cache_disk: int,
    system: str,
    max_tokens: int | None,
    summarize: bool,
    experts: bool,
    expert_names: tuple[str, ...],
    placement: PlacementOptions,
    vram: tuple[int, ...] | None,
    rpc: tuple[str, ...],
    n_threads: int | None,
    sampling: SamplingArguments,
    story: StoryArguments,
) -> None:
    """Serve a model and its stories over HTTP.

    MODEL is a GGUF file, or its name on the Hugging Face Hub. A page for writing stories is at the
    address that is printed. Clients of llama.cpp's server, OpenAI's API and KoboldCpp work too,
    such as SillyTavern.

    Only this machine can reach the server; if --host lets others reach it, it requires a key.
    Sampling options are the defaults for requests that do not set them. Cards and lorebooks are for
    new stories.
    """
    if bool(ssl_cert_file) != bool(ssl_key_file):
        raise click.UsageError("give both --ssl-cert-file and --ssl-key-file")
    if api_key and api_key_file:
        raise click.UsageError("give --api-key or --api-key-file, not both")
    key = _key(api_key_file) if api_key_file else api_key
    header, second_header = read_header(model), read_header(second) if second else None
    check_expert_names(expert_names, header)
    from franken_gguf.runner.ui.chat_screen import Screen  # noqa: PLC0415 - loads llama.cpp

    from .serve_run import run  # noqa: PLC0415 - loads llama.cpp

    arguments = ServeArguments(
        header=header,
        second=second_header,
        placement=placement,
        vram=vram,
        rpc=rpc,
        n_threads=n_threads,
        max_tokens=max_tokens,
        sampling=sampling,
        summarize=summarize,
        experts=experts,
        expert_names=expert_names,
        host=host,
        port=port,
        key=key,
        tls=(ssl_cert_file, ssl_key_file) if ssl_cert_file and ssl_key_file else None,
        alias=clean(alias),
        allowed_hosts=allowed_hosts,
        origins=tuple(origin.rstrip("/") for origin in origins),
        cache_ram=cache_ram,
        cache_disk=cache_disk,
        system=clean(system),
        story=story,
    )
    run(arguments, Screen())


def _key(path: Path) -> str:
    with path.open("rb") as file:
        key = file.read(_MAX_KEY + 1).decode(errors="replace").strip()
    if not key or len(key) > _MAX_KEY or not key.isprintable():
        raise click.UsageError(f"{path}: must hold one key of 1 to {_MAX_KEY} characters")
    return key
