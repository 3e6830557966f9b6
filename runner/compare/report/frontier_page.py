"""Size against predicted KL divergence, of presets and of the best types, as an HTML page. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from itertools import pairwise

from franken_gguf.quantize.target_size.frontier import FrontierPoint
from franken_gguf.runner.terminal.text import size

from . import svg
from .axes import Scale, linear, log_ticks, logarithmic, round_size, size_ticks
from .page import environment, resource

_HEIGHT, _HEAD, _FOOT = 360, 24, 22
_NAMED = ("IQ1_S", "IQ2_XXS", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
"""Presets far enough from each other for their names; the others have tooltips and the table."""
_SMALLEST = 1e-6
"""In nats; a log axis cannot show 0, which is what an exact type is predicted to cost."""


def frontier_page(model: str, points: Sequence[FrontierPoint], command: str) -> str:
    """The whole page; `points` by size, `command` is the one that made it."""
    style = resource("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment()
        .get_template("frontier_page.html.j2")
        .render(
            model=model,
            points=points,
            plot=frontier_plot(points),
            command=command,
            style=style,
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'",
        )
    )


def frontier_plot(points: Sequence[FrontierPoint]) -> str:
    """Both curves on a log axis against size; "" without points.

    A dot for each preset, and a line through the best files of the same sizes.
    """
    if not points:
        return ""
    values = [max(one, _SMALLEST) for p in points for one in (p.of_preset, p.of_target)]
    low, high = min(values) / 1.4, max(values) * 1.4
    sizes = [point.nbytes for point in points]
    across = linear(min(sizes), max(sizes), 12, 92)
    bottom = _HEIGHT - _FOOT
    down = logarithmic(low, high, bottom, _HEAD)
    said = "; ".join(
        f"{one.preset} {size(one.nbytes)} {one.of_preset:.4f}, best {one.of_target:.4f}"
        for one in points
    )
    plot = svg.picture(_HEIGHT, f"Predicted KL divergence by file size: {said}")
    for tick in log_ticks(low, high):
        svg.line(plot, "grid", 0, down(tick), 100, down(tick))
        svg.words(plot, "tick", 0, down(tick) - 4, f"{tick:g}")
    for tick in size_ticks(min(sizes), max(sizes)):
        svg.words(plot, "tick", across(tick), bottom + 16, round_size(tick), anchor="middle")
    best = [(across(p.nbytes), down(max(p.of_target, _SMALLEST))) for p in points]
    for one, other in pairwise(best):
        svg.line(plot, "interval", *one, *other)
    for (x, y), point in zip(best, points, strict=True):
        inside = svg.group(plot, f"--target-size {point.preset}: {point.of_target:.5f}")
        svg.dot(inside, "value", x, y, 4)
    _presets(plot, points, across, down)
    return svg.written(plot)


def _presets(plot: svg.Node, points: Sequence[FrontierPoint], across: Scale, down: Scale) -> None:
    for point in points:
        x, y = across(point.nbytes), down(max(point.of_preset, _SMALLEST))
        inside = svg.group(plot, f"{point.preset}: {size(point.nbytes)}, {point.of_preset:.5f}")
        svg.dot(inside, "unclear", x, y, 5)
        if point.preset in _NAMED:
            anchor, dx = ("end", -8.0) if x > 70 else ("start", 8.0)
            svg.words(plot, "name", x, y - 8, point.preset, anchor=anchor, dx=dx)
