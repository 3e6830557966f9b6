"""The report's plots: where things lie, and that any figure can be drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.report.axes import apart, log_ticks, round_size, size_ticks, ticks
from franken_gguf.runner.compare.report.plots import (
    Point,
    drift_plot,
    heat_map,
    kld_plot,
    lean_plot,
)
from franken_gguf.runner.compare.results.document import Lean
from franken_gguf.runner.compare.results.metrics import Estimate, Interval, LayerRouting
from support.comparisons import LIFE, lean

NUMBERS = st.floats()
PLACES = ("x", "x1", "x2", "cx")


def shapes(plot: str, kind: str) -> list[dict[str, str]]:
    return [one.attrib for one in ElementTree.fromstring(plot).iter() if one.get("class") == kind]


def percent(place: str) -> float:
    assert place.endswith("%")
    return float(place[:-1])


def inside(plot: str) -> bool:
    """Whether all of it lies within its picture."""
    tree = ElementTree.fromstring(plot) if plot else ElementTree.Element("svg", height="0")
    places = [
        percent(one.attrib[key]) for one in tree.iter() for key in PLACES if key in one.attrib
    ]
    heights = [float(one.attrib[key]) for one in tree.iter() for key in ("y1", "y2", "cy")
               if key in one.attrib]  # fmt: skip
    return all(-0.1 <= x <= 100.1 for x in places) and all(
        -0.1 <= y <= float(tree.attrib["height"]) for y in heights
    )


def test_a_lean_lies_where_it_is_between_the_labels_and_the_baseline_is_a_band() -> None:
    rows = [("F16", lean(2.0)), ("Q2_K", lean(-1.0, (-3.0, -3.5, -2.5)))]
    plot = lean_plot(LIFE, rows, "F16")
    (base,), (other,) = shapes(plot, "value unclear"), shapes(plot, "value second")
    (zero,), (band,) = shapes(plot, "zero"), shapes(plot, "band")
    left, middle, right = map(percent, (other["cx"], zero["x1"], base["cx"]))
    assert 0 < left < middle < right < 100
    assert (right - middle) / (middle - left) == pytest.approx(2, abs=0.01)
    assert percent(band["x"]) + percent(band["width"]) / 2 == pytest.approx(right, abs=0.02)
    text = "".join(ElementTree.fromstring(plot).itertext())
    assert "← mortal" in text and "eternal →" in text and "-1.00, ← moved" in text


def test_divergence_lies_on_a_log_axis_and_the_baseline_at_its_size() -> None:
    points = [Point(f"Q{n}", 100 * n, Estimate(10.0**-n, 0.0)) for n in (1, 2, 3)]
    plot = kld_plot(points, "F16", 800)
    heights = [float(one["cy"]) for one in shapes(plot, "value")]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    places = [percent(one["cx"]) for one in shapes(plot, "value")]
    assert places == sorted(places) and percent(shapes(plot, "base")[0]["x1"]) > places[-1]


def test_a_cell_is_as_strong_as_its_value_and_a_column_has_a_tooltip() -> None:
    plot = heat_map([[0.25, -0.5], [0.0, 0.0]], 0.5, is_difference=True)
    (more,), (less,) = shapes(plot, "cell more"), shapes(plot, "cell less")
    assert more["fill-opacity"] == "0.500" and "fill-opacity" not in less
    titles = [one.text for one in ElementTree.fromstring(plot).iter("title")]
    assert titles == ["layer 0: +25.0 -50.0 %", "layer 1: +0.0 +0.0 %"]


def test_the_layers_that_drift_most_stand_out() -> None:
    layers = [LayerRouting((1.0,), 0.9, 0.9, kld) for kld in (0.1, 0.4, 0.2)]
    plot = drift_plot(layers, (1,))
    assert [float(one["height"]) for one in shapes(plot, "bar worst")] == [40.0]
    assert [float(one["height"]) for one in shapes(plot, "bar")] == [10.0, 20.0]


def test_without_data_there_is_no_picture() -> None:
    assert lean_plot(LIFE, [], "F16") == kld_plot([], "F16", 1) == drift_plot([], ()) == ""
    assert heat_map([], 1.0, is_difference=False) == ""


def test_ticks_are_round() -> None:
    assert ticks(-1.3, 4.2) == [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    assert ticks(0, 29) == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    assert [round_size(one) for one in size_ticks(3 << 30, 8 << 30)] == ["4 GiB", "6 GiB", "8 GiB"]
    assert list(log_ticks(0.004, 0.1)) == [0.005, 0.01, 0.02, 0.05, 0.1]


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 300)), max_size=12))
def test_no_label_lies_on_another(places: list[tuple[int, int]]) -> None:
    wall = (40, 50, 150)
    heights = apart([(x, x + 10, y) for x, y in places], 16, [wall])
    for n, (x, _) in enumerate(places):
        assert abs(x - 40) >= 10 or abs(heights[n] - 150) >= 16
        for m in range(n):
            assert abs(x - places[m][0]) >= 10 or abs(heights[n] - heights[m]) >= 16


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.lists(NUMBERS, max_size=3)), max_size=4))
def test_any_lean_can_be_drawn(values: list[tuple[float, float, float, list[float]]]) -> None:
    rows = [
        (f"Q{n}", Lean(Interval(*one), Interval(0, 0, 0), 0, tuple(dots)))
        for n, (*one, dots) in enumerate(values)
    ]
    assert inside(lean_plot(LIFE, rows, "Q0"))


@given(
    st.lists(st.tuples(st.integers(0, 2**50), NUMBERS, NUMBERS), max_size=4), st.integers(1, 2**50)
)
def test_any_divergence_can_be_drawn(values: list[tuple[int, float, float]], nbytes: int) -> None:
    points = [Point("Q", size, Estimate(kld, error)) for size, kld, error in values]
    assert inside(kld_plot(points, "F16", nbytes))


@given(st.lists(st.lists(NUMBERS, max_size=3), max_size=3), NUMBERS)
def test_any_load_can_be_drawn(loads: list[list[float]], most: float) -> None:
    assert inside(heat_map(loads, most, is_difference=True))
    layers = [LayerRouting((1.0,), 0.5, 0.5, value) for row in loads for value in row]
    assert inside(drift_plot(layers, (0,)))
    assert "nan" not in drift_plot(layers, (0,))


def test_hostile_names_stay_text() -> None:
    name = '"><script>alert(1)</script>\x00\u202e'
    prompt = replace(LIFE, labels=(name, name))
    for plot in (
        lean_plot(prompt, [(name, lean(math.e))], name),
        kld_plot([Point(name, 1, Estimate(1, 0))], name, 2),
    ):
        tree = ElementTree.fromstring(plot)
        assert {one.tag for one in tree.iter()} <= {
            "svg",
            "g",
            "title",
            "text",
            "line",
            "rect",
            "circle",
        }
        assert "\x00" not in plot and "\u202e" not in plot
