"""SVG drawing with the standard library: x in percent of the width, y in pixels. Pure.

A plot library's picture has a fixed size and fixed colours. These plots scale with the page while
their text keeps the page's size, and the style sheet colours them by class, also in dark mode.
"""

from __future__ import annotations

from xml.etree import ElementTree

from franken_gguf.runner.terminal.text import printable

Node = ElementTree.Element


def picture(height: float, label: str) -> Node:
    """An empty picture; `label` is its description for screen readers."""
    words = {"role": "img", "aria-label": printable(label)}
    return Node("svg", {**words, "width": "100%", "height": f"{height:g}"})


def group(parent: Node, tooltip: str) -> Node:
    """A group of shapes with one tooltip."""
    inside = ElementTree.SubElement(parent, "g")
    titled(inside, tooltip)
    return inside


def titled(node: Node, tooltip: str) -> None:
    """Give a shape a tooltip."""
    ElementTree.SubElement(node, "title").text = printable(tooltip)


def line(parent: Node, kind: str, x1: float, y1: float, x2: float, y2: float) -> Node:
    """A line from (x1, y1) to (x2, y2)."""
    ends = {"x1": f"{x1:.2f}%", "y1": f"{y1:.1f}", "x2": f"{x2:.2f}%", "y2": f"{y2:.1f}"}
    return ElementTree.SubElement(parent, "line", {"class": kind, **ends})


def rectangle(
    parent: Node, kind: str, x: float, y: float, width: float, height: float, opacity: float = 1.0
) -> Node:
    """A rectangle with its upper left corner at (x, y)."""
    place = {"x": f"{x:.2f}%", "y": f"{y:.1f}", "width": f"{width:.2f}%", "height": f"{height:.1f}"}
    if opacity < 1:
        place["fill-opacity"] = f"{opacity:.3f}"
    return ElementTree.SubElement(parent, "rect", {"class": kind, **place})


def dot(parent: Node, kind: str, x: float, y: float, radius: float) -> Node:
    """A filled circle."""
    place = {"cx": f"{x:.2f}%", "cy": f"{y:.1f}", "r": f"{radius:g}"}
    return ElementTree.SubElement(parent, "circle", {"class": kind, **place})


def words(
    parent: Node, kind: str, x: float, y: float, text: str, *, anchor: str = "start", dx: float = 0
) -> Node:
    """A line of text whose `anchor` (start, middle or end) is at x, moved by `dx` pixels."""
    place = {"x": f"{x:.2f}%", "y": f"{y:.1f}", "dx": f"{dx:g}", "text-anchor": anchor}
    node = ElementTree.SubElement(parent, "text", {"class": kind, **place})
    node.text = printable(text)
    return node


def written(svg: Node) -> str:
    """The picture as text to put into a page."""
    return ElementTree.tostring(svg, encoding="unicode")
