"""The table that --verify prints: the tensors with the largest errors."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.output.verify import TensorCheck
from franken_gguf.runner.terminal.text import printable

_SHOWN = 5
_NARROW = 80


def worst_tensors(checks: Sequence[TensorCheck], width: int) -> Group:
    """The tensors with the largest errors for their types, and how many are within bounds."""
    gap = 1 if width < _NARROW else 2
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("farthest from the source", overflow="fold")
    table.add_column("type", no_wrap=True)
    for heading in ("RMSE", "of usual", "largest", "of usual"):
        table.add_column(heading, justify="right", no_wrap=True)
    worst = sorted(checks, key=lambda check: check.ratio, reverse=True)
    for check in worst[:_SHOWN]:
        table.add_row(
            printable(check.name),
            check.type.name,
            f"{check.rmse:.2g}",
            f"x{check.ratio:.2f}",
            f"{check.largest:.2g}",
            f"x{check.largest_ratio:.2f}",
        )
    sound = sum(check.is_sound for check in checks)
    line = Text(
        f"{sound} of {len(checks)} tensors are as close to the source as their types allow; errors "
        "relative to each tensor's root mean square"
    )
    return Group(line, table)


def show_checks(console: Console, checks: Sequence[TensorCheck]) -> None:
    """Print `worst_tensors`."""
    console.print(worst_tensors(checks, console.width))
