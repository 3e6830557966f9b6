"""Drawing SVG with nothing but the standard library: x in percent of the width, y in pixels. Pure.

No plot library: all there is to draw are lines, dots, rectangles and words, and a library's picture
cannot follow the page. This way a plot is as wide as the screen while its words stay as large as
the page's, and colours are the style sheet's, by class, so that dark mode is theirs too.
"""

from __future__ import annotations

from xml.etree import ElementTree

from franken_gguf.runner.terminal.text import printable

Node = ElementTree.Element


def picture(height: float, label: str) -> Node:
    """An empty picture; `label` is what a screen reader says of it."""
    words = {"role": "img", "aria-label": printable(label)}
    return Node("svg", {**words, "width": "100%", "height": f"{height:g}"})


def group(parent: Node, tooltip: str) -> Node:
    """Shapes with one tooltip."""
    inside = ElementTree.SubElement(parent, "g")
    titled(inside, tooltip)
    return inside


def titled(node: Node, tooltip: str) -> None:
    """Give a shape a tooltip."""
    ElementTree.SubElement(node, "title").text = printable(tooltip)


def line(parent: Node, kind: str, x1: float, y1: float, x2: float, y2: float) -> Node:
    """From one place to another."""
    ends = {"x1": f"{x1:.2f}%", "y1": f"{y1:.1f}", "x2": f"{x2:.2f}%", "y2": f"{y2:.1f}"}
    return ElementTree.SubElement(parent, "line", {"class": kind, **ends})


def rectangle(
    parent: Node, kind: str, x: float, y: float, width: float, height: float, opacity: float = 1.0
) -> Node:
    """From its upper left corner."""
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
    """A line of text; `anchor` says which part of it is at x: its start, middle or end."""
    place = {"x": f"{x:.2f}%", "y": f"{y:.1f}", "dx": f"{dx:g}", "text-anchor": anchor}
    node = ElementTree.SubElement(parent, "text", {"class": kind, **place})
    node.text = printable(text)
    return node


def written(svg: Node) -> str:
    """The picture as it stands in a page."""
    return ElementTree.tostring(svg, encoding="unicode")
