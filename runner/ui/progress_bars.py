"""Progress of a conversion: bars at a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.output.row_converter import Progress
from franken_gguf.runner.terminal.text import count, duration, printable, size

from .progress_stats import ProgressStats

# Seconds between two lines if there is no terminal to draw bars on.
_QUIET_INTERVAL = 10.0
# Seconds between two memory readings, which query the system about every worker.
_MEMORY_INTERVAL = 1.0


@contextmanager
def conversion_progress(
    console: Console, meter: ProgressStats
) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows a finished job; the display ends with the `with` block."""
    show = _bars if console.is_terminal else _lines
    with show(console, meter) as report:
        yield report


@contextmanager
def _bars(console: Console, meter: ProgressStats) -> Iterator[Callable[[Progress], None]]:
    memory = _Memory()

    def screen() -> Group:
        return Group(_tensor_line(meter), _table(meter), _figures(meter, memory()))

    with Live(get_renderable=screen, console=console, transient=True, refresh_per_second=4):
        yield meter.add


def _tensor_line(meter: ProgressStats) -> Text:
    name = printable(meter.tensor) or "starting"
    numbers = f"{meter.tensor_number} of {meter.tensors} tensors"
    return Text(f"{meter.stage}{name}, {numbers}", no_wrap=True, overflow="ellipsis")


def _table(meter: ProgressStats) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for output, written in zip(meter.outputs, meter.written, strict=True):
        of = f"{size(written)} of {size(output.nbytes)}"
        grid.add_row(output.preset.name, *_bar(written, output.nbytes), of)
    left = "" if meter.seconds_left is None else f"{duration(meter.seconds_left)} left"
    grid.add_row(
        Text("all", style="bold"), *_bar(meter.weights, meter.total), Text(left, style="bold")
    )
    return grid


def _bar(done: int, total: int) -> tuple[ProgressBar, str]:
    return ProgressBar(total=max(total, 1), completed=done), f"{100 * done // max(total, 1)} %"


def _figures(meter: ProgressStats, memory: int) -> Text:
    speed = meter.speed
    return Text(
        f"{count(speed.weights)} weights/s, {size(speed.bytes_read)}/s read, "
        f"{size(speed.bytes_written)}/s written, {size(memory)} of memory",
        style="dim",
    )


class _Memory:
    """Resident bytes of this process and its workers."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._measured = -_MEMORY_INTERVAL
        self._bytes = 0

    def __call__(self) -> int:
        now = time.monotonic()
        if now - self._measured >= _MEMORY_INTERVAL:
            self._measured = now
            self._bytes = 0
            for process in (self._process, *self._process.children(recursive=True)):
                try:
                    self._bytes += process.memory_info().rss
                except psutil.Error:  # it ended meanwhile
                    continue
        return self._bytes


@contextmanager
def _lines(console: Console, meter: ProgressStats) -> Iterator[Callable[[Progress], None]]:
    printed = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal printed
        meter.add(progress)
        now = time.monotonic()
        if now - printed >= _QUIET_INTERVAL and meter.seconds_left is not None:
            printed = now
            console.print(
                f"{100 * meter.weights // meter.total} %, {meter.tensor_number} of {meter.tensors} "
                f"tensors, {size(sum(meter.written))} written, "
                f"{duration(meter.seconds_left)} left",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )

    yield report
