"""The study's plot: leans against bits for a weight, with bands. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from franken_gguf.runner.compare.report import svg
from franken_gguf.runner.compare.report.axes import linear, logarithmic, ticks
from franken_gguf.runner.compare.results.metrics import Interval

_WIDTH, _HEIGHT, _HEAD, _FOOT = 900, 460, 40, 46
_BITS = (16, 8, 6, 5, 4, 3, 2, 1.6)
_LETTER = 0.85
"""The width of a letter, in percent of the picture."""
_LINE = 13.0
"""The least distance of two quants' names, in pixels."""
_COLOURS = ("#b3261e", "#1a5fb4", "#5e5c64", "#26a269", "#986a00", "#813d9c")
_STYLE = """
svg{background:#fff;font:13px system-ui,sans-serif}
line.grid{stroke:#ddd}line.zero{stroke:#888}text{fill:#333}text.tick{fill:#777}
"""


@dataclass(frozen=True)
class Curve:
    """A lean by bits for a weight, the most bits first."""

    name: str
    points: Sequence[tuple[float, str, Interval]]
    """Bits, the quant's name, and the lean."""
    has_band: bool = True


def lean_plot(curves: Sequence[Curve], description: str) -> str:
    """The curves on one axis of log-odds, with a band for the 95 % interval, as an SVG file."""
    points = [point for curve in curves for point in curve.points]
    ends = [v for _, _, one in points for v in (one.low, one.value, one.high)] or [-1.0, 1.0]
    low, high = min(0.0, *ends), max(0.0, *ends)
    across = logarithmic(_BITS[-1], _BITS[0], 96, 6)
    down = linear(low, high, _HEIGHT - _FOOT - 70, _HEAD)
    plot = svg.picture(_HEIGHT, description)
    plot.set("xmlns", "http://www.w3.org/2000/svg")
    plot.set("width", str(_WIDTH))
    plot.set("viewBox", f"0 0 {_WIDTH} {_HEIGHT}")
    ElementTree.SubElement(plot, "style").text = _STYLE
    for tick in ticks(low, high):
        svg.line(plot, "grid" if tick else "zero", 6, down(tick), 96, down(tick))
        svg.words(plot, "tick", 5, down(tick) + 4, f"{tick:+g}" if tick else "0", anchor="end")
    for bits in _BITS:
        svg.words(plot, "tick", across(bits), _HEIGHT - 26, f"{bits:g}", anchor="middle")
    svg.words(plot, "", 51, _HEIGHT - 8, "bits for a weight", anchor="middle")
    legend, free = 6.0, 0.0
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across(bits) / 100 * _WIDTH, one) for bits, _, one in curve.points]
        if curve.has_band and len(places) > 1:
            upper = [f"{x:.1f},{down(one.high):.1f}" for x, one in places]
            lower = [f"{x:.1f},{down(one.low):.1f}" for x, one in reversed(places)]
            band = {"points": " ".join(upper + lower), "fill": colour, "fill-opacity": "0.15"}
            ElementTree.SubElement(plot, "polygon", band)
        line = {"fill": "none", "stroke": colour, "stroke-width": "2"}
        line["points"] = " ".join(f"{x:.1f},{down(one.value):.1f}" for x, one in places)
        if not curve.has_band:
            line |= {"stroke-dasharray": "4 3", "stroke-width": "1.3"}
        ElementTree.SubElement(plot, "polyline", line)
        for (bits, rung, one), (x, _) in zip(curve.points, places, strict=True):
            inside = svg.group(
                plot,
                f"{curve.name}, {rung}, {bits:.2f} bits: {one.value:+.2f} "
                f"({one.low:+.2f} to {one.high:+.2f})",
            )
            circle = {"cx": f"{x:.1f}", "cy": f"{down(one.value):.1f}", "r": "3.5", "fill": colour}
            ElementTree.SubElement(inside, "circle", circle)
            if not number:
                free = max(x + 4, free + _LINE)
                name = svg.words(inside, "tick", free / _WIDTH * 100, _HEIGHT - _FOOT, rung)
                name.set("transform", f"rotate(-90 {free:.1f} {_HEIGHT - _FOOT})")
        label = svg.words(plot, "", legend, 18, curve.name)
        label.set("style", f"fill:{colour}")
        legend += _LETTER * (len(curve.name) + 3)
    return svg.written(plot) + "\n"
