"""`franken-gguf inspect`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.model_summary import summarize
from franken_gguf.quantize.gguf_file.split_files import joined, parts
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.verify import TensorCheck, refuse_unsound, verify
from franken_gguf.quantize.output.worker_memory import DEFAULT_MAX_MEMORY, share_memory
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.cli.options.option_groups import Command, option
from franken_gguf.runner.cli.options.output_options import json_option
from franken_gguf.runner.cli.options.types import MODEL
from franken_gguf.runner.common.hardware import cores
from franken_gguf.runner.ui import inspect_screen
from franken_gguf.runner.ui.verify_screen import show_checks

from . import convert_json
from .hub_names import hub_names
from .router_prep import base_type_option, route


@click.command(cls=Command)
@click.argument("model", type=MODEL)
@option(
    "--verify",
    "source",
    type=MODEL,
    metavar="SOURCE",
    help="Compare every tensor with the checkpoint or recipe that it was made from.",
)
@base_type_option()
@json_option(what="summary")
@hub_names(models=["model"], sources=["source"])
def inspect(model: Path, source: Path | None, base_type: Preset, as_json: bool) -> None:
    """Show what is in a GGUF file.

    Only the header of MODEL is read, unless --verify is given.
    """
    summary = summarize(joined(read_header(model)))
    checks = _checks(model, source, base_type) if source else []
    if as_json:
        document = asdict(summary)
        if source:
            document["checks"] = [convert_json.checked(check) for check in checks]
        click.echo(json.dumps(document, indent=2))
    elif source:
        show_checks(Console(), checks)
    else:
        inspect_screen.show_summary(Console(), summary)
    if checks:
        refuse_unsound(model, checks)


def _checks(model: Path, source: Path, base_type: Preset) -> list[TensorCheck]:
    reference = open_source(source)
    notices = Console(stderr=True, highlight=False)
    route(reference, model.parent, notices, base_type=base_type)
    share = share_memory(reference.tensors, cores(), DEFAULT_MAX_MEMORY)
    files = [part.path for part in parts(read_header(model))]
    with inspect_screen.verifying(notices, reference) as report:
        return verify(reference, files, share, report)
