"""The screen of `franken-gguf inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.gguf_file.model_summary import Summary
from franken_gguf.quantize.output.jobs import Job, end, weights_before
from franken_gguf.runner.terminal.text import count, printable, size

from .task_status import working

_SHOWN_CHARACTERS = 200
_NARROW = 80


@contextmanager
def verifying(notices: Console, source: Source) -> Iterator[Callable[[Job], None]]:
    """Yield a function that shows a finished job at a terminal; elsewhere it shows nothing."""
    if not notices.is_terminal:
        yield lambda job: None
        return
    tensors, task = source.tensors, "comparing every tensor with the source"
    total = weights_before(tensors, end(tensors))
    with working(notices, task) as update:

        def report(job: Job) -> None:
            percent = 100 * weights_before(tensors, job.end) // total
            update(f"{task}: {percent} %, {job.index + 1} of {len(tensors)} tensors")

        yield report


def show_summary(console: Console, summary: Summary) -> None:
    """Print the model, its tensor groups, and its metadata, a line for each key."""
    console.print(_model(summary), Text(), _groups(summary, console.width), Text())
    for key, value in summary.metadata.items():
        line = Text.assemble((printable(key), "dim"), " = ", printable(_value(value)))
        console.print(line, soft_wrap=not console.is_terminal)


def _model(summary: Summary) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    layers = f"{summary.layers} layers, context {summary.context_length:,}"
    for label, text in (
        ("model", summary.name or "(no name)"),
        ("file", f"{summary.file}, {size(summary.file_bytes)}"),
        ("architecture", f"{summary.architecture}, {layers}"),
        ("experts", _experts(summary)),
        ("parameters", _parameters(summary)),
        ("types", _types(summary.types)),
        ("bits/weight", f"{summary.bits_per_weight:.2f}"),
    ):
        grid.add_row(label, printable(text))
    if file := summary.metadata.get("quantize.second_moments.file"):
        line = f"chosen under second moments ({file}), not the bytes of llama-quantize"
        grid.add_row("codes", printable(line))
    return grid


def _experts(summary: Summary) -> str:
    if not summary.experts:
        return "none (dense)"
    return f"{summary.experts}, {summary.experts_used} active for each token"


def _parameters(summary: Summary) -> str:
    total = count(summary.parameters)
    if summary.active_parameters == summary.parameters:
        return total
    return f"{total} in memory, {count(summary.active_parameters)} active for each token"


def _types(types: dict[str, int]) -> str:
    return ", ".join(f"{name} x{number}" for name, number in types.items())


def _groups(summary: Summary, width: int) -> Table:
    gap = 1 if width < _NARROW else 2
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("tensors", no_wrap=True)
    for heading in ("count", "parameters", "size", "share"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("types", overflow="fold")
    total = sum(group.nbytes for group in summary.groups) or 1
    for group in summary.groups:
        table.add_row(
            group.name,
            str(group.tensors),
            count(group.parameters),
            size(group.nbytes),
            f"{100 * group.nbytes / total:.1f} %",
            _types(group.types),
        )
    return table


def _value(value: Any) -> str:
    if isinstance(value, dict):
        items = json.dumps(value["first"], ensure_ascii=False)[1:-1]
        return f"{value['items']:,} items: {_cut(items)}"
    if isinstance(value, str):
        return _cut(value)
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."
