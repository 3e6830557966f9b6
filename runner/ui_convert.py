"""The screen of `franken-gguf convert`: what will be written, how far it is, what came out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.convert import Progress as Done
from franken_gguf.quantize.imatrix import Imatrix
from franken_gguf.quantize.output import Output
from franken_gguf.quantize.recipe import layer_of

from .terminal import count, printable, size

# Seconds between two lines of progress where there is no terminal to draw a bar on.
_QUIET_INTERVAL = 10.0
# Columns of a terminal that has room for the speed beside the bar.
_WIDE = 80


class _Speed(ProgressColumn):
    """Weights a second."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        return Text(f"{count(task.speed or 0)}weights/s")


@contextmanager
def conversion_progress(
    console: Console, weights: int, tensors: int
) -> Iterator[Callable[[Done], None]]:
    """Report `weights` in `tensors` as they are written: a bar at a terminal, else a few lines."""
    report = _bar if console.is_terminal else _lines
    with report(console, weights, tensors) as update:
        yield update


@contextmanager
def _bar(console: Console, weights: int, tensors: int) -> Iterator[Callable[[Done], None]]:
    seen: set[str] = set()
    written = 0
    columns: list[ProgressColumn] = [
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[tensors]}"),
        TextColumn("{task.fields[written]}"),
        TimeRemainingColumn(compact=True),
    ]
    if console.width >= _WIDE:
        columns.insert(-1, _Speed())
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("", total=weights, written="", tensors="")

        def update(done: Done) -> None:
            nonlocal written
            seen.add(done.tensor)
            written += done.bytes_written
            progress.update(
                task,
                advance=done.weights,
                written=size(written),
                tensors=f"{len(seen)}/{tensors} tensors",
            )

        yield update


@contextmanager
def _lines(console: Console, weights: int, tensors: int) -> Iterator[Callable[[Done], None]]:
    seen: set[str] = set()
    converted = written = 0
    started = said = time.monotonic()

    def update(done: Done) -> None:
        nonlocal converted, written, said
        seen.add(done.tensor)
        converted += done.weights
        written += done.bytes_written
        now = time.monotonic()
        if now - said >= _QUIET_INTERVAL:
            said = now
            left = (now - started) * (weights - converted) / converted
            console.print(
                f"{100 * converted // weights} %, {len(seen)} of {tensors} tensors, "
                f"{size(written)} written, {left:.0f} s left",
                soft_wrap=True,
            )

    yield update


def show_outputs(console: Console, outputs: Sequence[Output]) -> None:
    """Print each output's path, size, bits per weight, types and fallbacks."""
    for output in outputs:
        types = ", ".join(f"{name} x{n}" for name, n in type_counts(output).items())
        console.print(Text(printable(str(output.path)), style="bold"), soft_wrap=True)
        console.print(
            Padding(
                Text(f"{size(output.nbytes)}, {output.bits_per_weight:.2f} bits/weight: {types}"),
                (0, 0, 0, 2),
            )
        )
        if line := fallback_line(output):
            console.print(Padding(Text(line, style="yellow"), (0, 0, 0, 2)))


def type_counts(output: Output) -> dict[str, int]:
    """Type name to number of tensors, most first."""
    return dict(Counter(t.choice.type.name for t in output.tensors).most_common())


def fallback_line(output: Output) -> str:
    """What did not fit its wanted block, in one line; empty where everything did."""
    fallen = [tensor for tensor in output.tensors if tensor.choice.fell_back]
    if not fallen:
        return ""
    kinds = Counter(f"{t.choice.wanted.name} -> {t.choice.type.name}" for t in fallen)
    which = ", ".join(f"{kind} x{n}" for kind, n in kinds.most_common())
    return (
        f"{len(fallen)} tensors ({size(sum(t.nbytes for t in fallen))}) have rows that do not fit "
        f"their type and fell back ({which}): {output.bits_per_weight:.2f} bits/weight instead of "
        f"{output.wanted_bits_per_weight:.2f}"
    )


def show_imatrix(console: Console, imatrix: Imatrix, outputs: Sequence[Output]) -> None:
    """Say which experts the calibration never reached, by layer, and which tensors it lacks."""
    layers: dict[int, set[int]] = {}
    for name, experts in imatrix.unreached.items():
        layers.setdefault(layer_of(name), set()).update(experts)
    if layers:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("layer", justify="right")
        table.add_column("experts that no token of the calibration reached", overflow="fold")
        for layer, experts_of_layer in sorted(layers.items()):
            table.add_row(str(layer), ", ".join(map(str, sorted(experts_of_layer))))
        console.print(table)
    missing = sorted({name for output in outputs for name in output.without_importance})
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        console.print(
            f"{printable(imatrix.path.name)} lacks {printable(', '.join(missing[:3]))}{more}: "
            "quantized without it",
            style="dim",
            markup=False,
        )
