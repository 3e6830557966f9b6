"""A report's plots: leans with intervals, KL divergence against size, routing by layer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from franken_gguf.runner.compare.results.document import Lean, Prompt
from franken_gguf.runner.compare.results.metrics import Z95, Estimate, LayerRouting
from franken_gguf.runner.terminal.text import size

from . import svg
from .axes import Scale, apart, linear, log_ticks, logarithmic, round_size, size_ticks, ticks

_ROW, _HEAD, _FOOT = 48, 24, 22
_KLD_HEIGHT = 280
_PHONE = 300.0
"""Width in pixels of a plot on a small phone; labels must not overlap there."""
_CHARACTER, _LINE, _GAP = 8.0, 16.0, 10.0
_NAME, _LABEL = 12, 24
"""Longest name of a model and of an answer, in characters."""
_LEAST_RANGE = 10.0
"""Smallest ratio of the log axis' ends, so that it has ticks."""
_FARTHEST = 1e6
"""In nats; larger values, infinities and NaN are not drawn."""
_INVISIBLE = 0.005
_CELLS_HEIGHT, _BARS_HEIGHT = 288, 56


@dataclass(frozen=True)
class Point:
    """A model in the plot of KL divergence against size."""

    name: str
    nbytes: int
    kld: Estimate


def lean_plot(prompt: Prompt, rows: Sequence[tuple[str, Lean]], baseline: str) -> str:
    """Each model's lean with its interval, the baseline's as a band behind them; "" without rows.

    Each faint dot is one paraphrase. Models with values that cannot be drawn are left out.
    """
    rows = [(name, lean) for name, lean in rows if all(map(_can_draw, _values(lean)))]
    if not rows:
        return ""
    values = [0.0, *(value for _, lean in rows for value in _values(lean))]
    across = linear(min(values), max(values), 4, 96)
    bottom = _HEAD + _ROW * len(rows)
    first, second = prompt.labels
    description = "; ".join(f"{name} {_lean_text(lean)}" for name, lean in rows)
    plot = svg.picture(bottom + _FOOT, f"Log-odds of {first} against {second}: {description}")
    for name, lean in rows:
        if name == baseline:
            low, high = across(lean.raw.low), across(lean.raw.high)
            svg.rectangle(plot, "band", low, _HEAD, high - low, bottom - _HEAD)
    for tick in ticks(min(values), max(values)):
        x = across(tick)
        svg.line(plot, "grid" if tick else "zero", x, _HEAD, x, bottom)
        svg.words(plot, "tick", x, bottom + 16, f"{tick:+g}" if tick else "0", anchor="middle")
    svg.words(plot, "end second", 0, 14, f"← {_short(second, _LABEL)}")
    svg.words(plot, "end first", 100, 14, f"{_short(first, _LABEL)} →", anchor="end")
    for number, (name, lean) in enumerate(rows):
        _lean_row(plot, across, _HEAD + number * _ROW, name, lean)
    return svg.written(plot)


def _lean_row(plot: svg.Node, across: Scale, top: int, name: str, lean: Lean) -> None:
    colour = {0: "unclear", 1: "first", -1: "second"}[lean.moved]
    moved = {0: "inconclusive", 1: "moved →", -1: "← moved"}[lean.moved]
    note = moved if lean.difference else "baseline"
    y = top + 33
    svg.words(plot, "name", 0, top + 18, _short(name, _NAME))
    svg.words(plot, f"note {colour}", 100, top + 18, f"{lean.raw.value:+.2f}, {note}", anchor="end")
    for value in lean.paraphrases:
        svg.dot(plot, "wording", across(value), y, 2.5)
    inside = svg.group(plot, f"{name}: {_lean_text(lean)}")
    svg.line(inside, f"interval {colour}", across(lean.raw.low), y, across(lean.raw.high), y)
    svg.dot(inside, f"value {colour}", across(lean.raw.value), y, 5.5)


def _lean_text(lean: Lean) -> str:
    return f"{lean.raw.value:+.2f} ({lean.raw.low:+.2f} to {lean.raw.high:+.2f})"


def _values(lean: Lean) -> tuple[float, ...]:
    return (lean.raw.low, lean.raw.value, lean.raw.high, *lean.paraphrases)


def kld_plot(points: Sequence[Point], baseline: str, nbytes: int) -> str:
    """KL divergence on a log axis against file size; "" without points.

    The baseline of `nbytes` is a vertical line: its divergence is 0, which a log axis cannot show.
    """
    points = [one for one in points if _can_draw(one.kld.value) and _can_draw(one.kld.error)]
    if not points:
        return ""
    points = sorted(points, key=lambda one: one.nbytes)
    sizes = [nbytes, *(one.nbytes for one in points)]
    low, high = _kld_range([one.kld for one in points])
    across = linear(min(sizes), max(sizes), 12, 92)
    bottom = _KLD_HEIGHT - _FOOT
    down = logarithmic(low, high, bottom, _HEAD)
    description = "; ".join(f"{one.name} {size(one.nbytes)} {one.kld.value:.4f}" for one in points)
    plot = svg.picture(_KLD_HEIGHT, f"KL divergence from {baseline} by file size: {description}")
    for tick in log_ticks(low, high):
        svg.line(plot, "grid", 0, down(tick), 100, down(tick))
        svg.words(plot, "tick", 0, down(tick) - 4, f"{tick:g}")
    for tick in size_ticks(min(sizes), max(sizes)):
        svg.words(plot, "tick", across(tick), bottom + 16, round_size(tick), anchor="middle")
    svg.line(plot, "base", across(nbytes), _HEAD, across(nbytes), bottom)
    anchor = "end" if across(nbytes) > 50 else "start"
    svg.words(
        plot, "tick", across(nbytes), 14, f"{_short(baseline, _NAME)}, baseline", anchor=anchor
    )
    for one, other in pairwise(points):
        ends = across(one.nbytes), down(one.kld.value), across(other.nbytes), down(other.kld.value)
        svg.line(plot, "path", *ends)
    _points(plot, points, across, down)
    return svg.written(plot)


def _points(plot: svg.Node, points: Sequence[Point], across: Scale, down: Scale) -> None:
    labels, dots = [], []
    gap = _GAP / _PHONE * 100
    for one in points:
        x, y = across(one.nbytes), down(one.kld.value)
        width = _CHARACTER * len(_short(one.name, _NAME)) / _PHONE * 100
        left = x - gap - width if x > 50 else x + gap
        labels.append((left, left + width, y))
        dots.append((x - gap / 2, x + gap / 2, y))
        half = Z95 * one.kld.error
        inside = svg.group(
            plot, f"{one.name}: {size(one.nbytes)}, {one.kld.value:.5f} ± {half:.5f}"
        )
        svg.line(inside, "interval", x, down(one.kld.value - half), x, down(one.kld.value + half))
        svg.dot(inside, "value", x, y, 5.5)
    for one, height in zip(points, apart(labels, _LINE, dots), strict=True):
        x = across(one.nbytes)
        anchor, dx = ("end", -_GAP) if x > 50 else ("start", _GAP)
        svg.words(plot, "name", x, height + 4, _short(one.name, _NAME), anchor=anchor, dx=dx)


def _kld_range(klds: Sequence[Estimate]) -> tuple[float, float]:
    """A range that covers the intervals with a margin; values up to 0 are drawn at its bottom."""
    values = [one.value for one in klds if one.value > 0] or [1e-6]
    ends = [one.value + side * Z95 * one.error for one in klds for side in (-1, 1)]
    low = min(values) / 3 if min(ends) <= 0 else min(ends)
    high = max(*ends, *values)
    margin = max(1.4, (_LEAST_RANGE * low / high) ** 0.5)
    return low / margin, high * margin


def heat_map(layers: Sequence[Sequence[float]], most: float, *, is_difference: bool) -> str:
    """The load of each expert (rows) in each layer (columns), or the change in load.

    `most` is drawn in full colour. A column's tooltip lists its figures. "" without experts.
    """
    n_expert = max(map(len, layers), default=0)
    if not n_expert:
        return ""
    step, cell = 100 / len(layers), max(2, min(18, _CELLS_HEIGHT // n_expert))
    what = "Change in expert load" if is_difference else "Expert load"
    plot = svg.picture(n_expert * cell + _FOOT, f"{what} by layer; see the table for figures")
    for number, values in enumerate(layers):
        column = svg.group(plot, f"layer {number}: {percents(values, signed=is_difference)}")
        for expert, value in enumerate(values):
            kind = "load" if not is_difference else "more" if value > 0 else "less"
            strength = min(1.0, abs(value) / most) if most else 0.0
            if strength > _INVISIBLE:
                place = number * step, expert * cell, step, cell
                svg.rectangle(column, f"cell {kind}", *place, opacity=strength)
    _layer_numbers(plot, len(layers), n_expert * cell)
    return svg.written(plot)


def drift_plot(layers: Sequence[LayerRouting], drift: Sequence[int]) -> str:
    """KL divergence of router probabilities from the baseline's by layer, `drift` highlighted."""
    klds = [one.kld if one.kld is not None and _can_draw(one.kld) else 0.0 for one in layers]
    most = max(klds, default=0.0)
    if not most > 0:
        return ""
    step = 100 / len(layers)
    description = f"KL divergence of router probabilities by layer, up to {most:.4f}"
    plot = svg.picture(_BARS_HEIGHT + _FOOT, description)
    for number, (layer, kld) in enumerate(zip(layers, klds, strict=True)):
        tall = max(0.0, kld / most * (_BARS_HEIGHT - 16))
        same = (
            "" if layer.same_experts is None else f", {100 * layer.same_experts:.1f} % same experts"
        )
        bar = svg.group(plot, f"layer {number}: {kld:.5f}{same}")
        kind = "bar worst" if number in drift else "bar"
        svg.rectangle(bar, kind, number * step, _BARS_HEIGHT - tall, step * 0.85, tall)
    svg.words(plot, "tick", 0, 10, f"{most:.3g}")
    svg.line(plot, "zero", 0, _BARS_HEIGHT, 100, _BARS_HEIGHT)
    _layer_numbers(plot, len(layers), _BARS_HEIGHT)
    return svg.written(plot)


def _layer_numbers(plot: svg.Node, count: int, top: float) -> None:
    for tick in ticks(0, count - 1):
        if tick == int(tick):
            x = (tick + 0.5) * 100 / count
            svg.words(plot, "tick", x, top + 16, f"{tick:g}", anchor="middle")


def percents(values: Sequence[float], *, signed: bool = False) -> str:
    """The first 64 shares, in percent."""
    shown = [f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}" for value in values[:64]]
    return f"{' '.join(shown)}{' ...' if len(values) > 64 else ''} %"


def _can_draw(value: float) -> bool:
    return abs(value) <= _FARTHEST


def _short(text: str, most: int) -> str:
    """At most `most` characters, cut in the middle: a name ends with its quant."""
    rest = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - rest]}…{text[-rest:]}"
