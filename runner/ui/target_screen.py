"""What `convert --target-size` prints: the frontier of a dry run, and how to repeat its choice."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.output.output import Output
from franken_gguf.quantize.target_size.frontier import FrontierPoint
from franken_gguf.quantize.target_size.target import Fitted
from franken_gguf.runner.terminal.text import printable, size


def show_frontier(console: Console, points: Sequence[FrontierPoint]) -> None:
    """Print the table of sizes, if there is one."""
    if not points:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("size of")
    for heading in ("bytes", "bits/weight", "KL of the quant", "KL of --target-size"):
        table.add_column(heading, justify="right")
    for point in points:
        table.add_row(
            point.preset,
            size(point.nbytes),
            f"{point.bits_per_weight:.2f}",
            f"{point.of_preset:.4f}",
            f"{point.of_target:.4f}",
        )
    console.print(Text(), "predicted KL divergence from the unquantized model, by size:", table)


def show_fitted(console: Console, outputs: Sequence[Output], fitted: Sequence[Fitted]) -> None:
    """Print what is expected of each file, and the llama-quantize options that repeat it."""
    for output, one in zip(outputs, fitted, strict=True):
        console.print(
            f"predicted KL divergence of {printable(output.path.name)}: {one.divergence:.4f}; "
            f"the same types with llama-quantize, as {one.preset.rules}:",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        for option in one.options:
            console.print(Text(f"  --tensor-type {shlex.quote(option)}", "dim"), soft_wrap=True)
