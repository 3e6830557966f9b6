"""The screen of `franken-gguf imatrix`: the experts' shares while they fill, then the result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.gguf_file.model_summary import summarize
from franken_gguf.quantize.tensor_types.imatrix_file import ImatrixSums
from franken_gguf.runner.imatrix.calibrate import Settings
from franken_gguf.runner.imatrix.expert_shares import LayerShares, expert_shares, rare_experts
from franken_gguf.runner.imatrix.partial import Partial
from franken_gguf.runner.terminal.text import duration, printable

# Seconds between two lines if there is no terminal to draw on.
_QUIET_INTERVAL = 10.0
_LIVE_ROWS = 8
_RARE_SHOWN = 5
_FEW_BITS = 8.0


@dataclass(frozen=True)
class Summary:
    """A finished importance matrix."""

    path: Path
    content: ImatrixSums
    """Without the prior."""
    settings: Settings
    chunks: int
    """Chunks that there were to evaluate."""
    held_out: int
    second_moments: Path | None = None
    """Their file, if it was written."""

    @property
    def layers(self) -> list[LayerShares]:
        """The experts' tokens."""
        return expert_shares(self.content.weights)

    @property
    def rare(self) -> list[tuple[int, int, int]]:
        """(layer, expert, tokens) of experts below the floor."""
        return rare_experts(self.layers, self.settings.floor)


def quantized_line(header: Header) -> str:
    """A notice about a source of few bits per weight, or ""."""
    bits = summarize(header).bits_per_weight
    if bits >= _FEW_BITS:
        return ""
    return (
        f"{header.path} has {bits:.1f} bits per weight: its quantization errors affect the matrix; "
        "make it from F16 or Q8_0 if you can"
    )


class _Meter:
    """What is done, and how fast."""

    def __init__(self, total: int, settings: Settings) -> None:
        self.total, self.settings = total, settings
        self.layers: list[LayerShares] = []
        self.done = self._at_start = 0
        self._started: float | None = None

    def update(self, partial: Partial) -> None:
        if self._started is None:
            self._started, self._at_start = time.monotonic(), partial.done
        self.done, self.layers = partial.done, expert_shares(partial.weights)

    def line(self) -> str:
        """Such as `12 of 80 chunks, 141 tokens/s, 4:07 left`."""
        text = f"{self.done} of {self.total} chunks"
        new = self.done - self._at_start
        if self._started is None or not new:
            return text
        each = (time.monotonic() - self._started) / new
        left = duration(each * (self.total - self.done))
        return f"{text}, {self.settings.chunk_size / each:.0f} tokens/s, {left} left"

    def rarest(self) -> str:
        """Such as `fewest tokens: 1,204 (layer 3, expert 2)`; "" without experts."""
        if not self.layers:
            return ""
        rarest = min(self.layers, key=lambda layer: layer.counts.min())
        return (
            f"fewest tokens: {rarest.counts.min():,} of {self.settings.floor:,} "
            f"(layer {rarest.layer}, expert {rarest.rarest})"
        )


@contextmanager
def progress(
    console: Console, total: int, settings: Settings
) -> Iterator[Callable[[Partial], None]]:
    """Yield a function that shows what is done; the display ends with the `with` block."""
    meter = _Meter(total, settings)
    show = _live if console.is_terminal else _lines
    with show(console, meter) as report:
        yield report


@contextmanager
def _live(console: Console, meter: _Meter) -> Iterator[Callable[[Partial], None]]:
    def screen() -> RenderableType:
        bar = ProgressBar(total=max(1, meter.total), completed=meter.done, width=40)
        parts: list[RenderableType] = [bar, Text(meter.line())]
        if meter.layers:
            unequal = sorted(meter.layers, key=lambda layer: layer.shares.min())[:_LIVE_ROWS]
            parts += [Text(meter.rarest()), shares_table(unequal)]
        return Group(*parts)

    with Live(get_renderable=screen, console=console, transient=True, refresh_per_second=4):
        yield meter.update


@contextmanager
def _lines(console: Console, meter: _Meter) -> Iterator[Callable[[Partial], None]]:
    printed = time.monotonic()

    def report(partial: Partial) -> None:
        nonlocal printed
        resumed = not meter.done and partial.done > 1
        meter.update(partial)
        if resumed:
            console.print(f"resuming after {partial.done} chunks", soft_wrap=True)
        if time.monotonic() - printed >= _QUIET_INTERVAL:
            printed = time.monotonic()
            text = ", ".join(filter(None, (meter.line(), meter.rarest())))
            console.print(text, soft_wrap=True)

    yield report


def shares_table(layers: Sequence[LayerShares]) -> Table:
    """Each layer's tokens per expert: the smallest, the median and the largest share."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("layer", "least", "median", "most", "fewest tokens", "expert"):
        table.add_column(name, justify="right")
    for layer in layers:
        shares = layer.shares
        least, middle, most = shares.min(), np.median(shares), shares.max()
        table.add_row(
            str(layer.layer),
            *(f"{100 * share:.1f} %" for share in (least, middle, most)),
            f"{layer.counts.min():,}",
            str(layer.rarest),
        )
    return table


def show(console: Console, summary: Summary) -> None:
    """Print the experts' shares, the rare ones, and the file."""
    content, settings = summary.content, summary.settings
    if summary.layers and not settings.all_experts:
        console.print("Share of the tokens that each layer's experts received:")
        console.print(shares_table(summary.layers))
        if rare := summary.rare:
            console.print(Text(_rare_line(rare, settings), style="yellow"), soft_wrap=True)
    console.print(Text(printable(str(summary.path)), style="bold"), soft_wrap=True)
    tokens = content.chunks * settings.chunk_size
    text = (
        f"    {len(content.weights)} weights, {tokens:,} tokens in {content.chunks} of "
        f"{summary.chunks} chunks"
    )
    if summary.held_out:
        text += f"; {summary.held_out} more, every {settings.hold_out}th, held out"
    console.print(text, highlight=False, soft_wrap=True)
    if summary.second_moments:
        path = printable(str(summary.second_moments))
        console.print(Text(path, style="bold"), "   second moments", soft_wrap=True)


def _rare_line(rare: Sequence[tuple[int, int, int]], settings: Settings) -> str:
    shown = ", ".join(
        f"layer {layer} expert {expert} ({tokens:,})"
        for layer, expert, tokens in rare[:_RARE_SHOWN]
    )
    more = f" and {len(rare) - _RARE_SHOWN} more" if len(rare) > _RARE_SHOWN else ""
    text = "give more text" if settings.chunks is None else "raise --chunks"
    return (
        f"Fewer than {settings.floor:,} tokens: {shown}{more}; {text}, or add --all-experts or "
        "--prior 64"
    )


def document(summary: Summary) -> dict[str, Any]:
    """The result for --json."""
    content = summary.content
    return {
        "path": str(summary.path),
        "second_moments": str(summary.second_moments) if summary.second_moments else None,
        "weights": len(content.weights),
        "chunk_size": content.chunk_size,
        "chunks": content.chunks,
        "chunks_available": summary.chunks,
        "chunks_held_out": summary.held_out,
        "datasets": list(content.datasets),
        "min_tokens_per_expert": summary.settings.floor,
        "experts": [
            {"layer": layer.layer, "tokens": layer.counts.tolist()} for layer in summary.layers
        ],
        "rare_experts": [
            {"layer": layer, "expert": expert, "tokens": tokens}
            for layer, expert, tokens in summary.rare
        ],
    }
