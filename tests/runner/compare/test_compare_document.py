"""The document of a comparison: what its docs name, and when a lean has moved."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.results import document, metrics
from franken_gguf.runner.compare.results.document import Lean, Routing, as_json
from franken_gguf.runner.compare.results.metrics import Interval, LayerRouting
from support.comparisons import comparison, drawn, model

DOCS = Path(__file__).resolve().parents[3] / "docs" / "compare-json.md"
CLASSES = [one for one in vars(document).values() if dataclasses.is_dataclass(one)]


@pytest.mark.parametrize("kind", [*CLASSES, metrics.LayerRouting], ids=lambda kind: kind.__name__)
def test_every_member_is_in_the_docs(kind: Any) -> None:
    known = set(re.findall(r"\w+", DOCS.read_text()))
    assert {field.name for field in dataclasses.fields(kind)} <= known


def test_every_key_of_the_json_is_in_the_docs() -> None:
    (base, *_) = as_json(drawn(1))["models"]
    layer = base["routing"]["layers"][0]
    known = set(re.findall(r"\w+", DOCS.read_text()))
    assert "load_entropy" in layer and {*base, *base["routing"], *layer} <= known


def test_each_layer_of_the_json_has_the_entropy_of_its_load_and_each_model_their_mean() -> None:
    even, skewed = LayerRouting((0.25,) * 4), LayerRouting((0.5, 0.25, 0.25, 0))
    mixture = model("F16", 64, experts=4, routing=Routing(9, (even, skewed)))
    first, second = as_json(comparison(mixture, model("Q8_0", 32)))["models"]
    assert [layer["load_entropy"] for layer in first["routing"]["layers"]] == [1, 0.75]
    assert first["routing"]["load_entropy"] == 0.875
    assert second["routing"] is None


def lean(difference: Interval | None, paraphrases: int = 10, noise: float = 0.0) -> Lean:
    zero = Interval(0, 0, 0)
    return Lean(zero, zero, 0, (0.0,) * paraphrases, difference, difference, noise)


def test_a_lean_has_moved_if_the_interval_of_its_difference_excludes_0() -> None:
    assert lean(Interval(0.5, 0.1, 0.9)).moved == 1
    assert lean(Interval(-0.5, -0.9, -0.1)).moved == -1
    assert lean(Interval(0.5, -0.1, 0.9)).moved == 0


def test_within_noise_with_few_wordings_or_in_the_baseline_a_lean_has_not_moved() -> None:
    assert lean(Interval(0.5, 0.1, 0.9), noise=0.6).moved == 0
    assert lean(Interval(0.5, 0.1, 0.9), paraphrases=4).moved == 0
    assert lean(None).moved == 0


@given(st.floats(-9, 9), st.floats(0, 9), st.floats(0, 9), st.floats(0, 3))
def test_the_direction_is_never_against_the_difference(
    value: float, below: float, above: float, noise: float
) -> None:
    moved = lean(Interval(value, value - below, value + above), noise=noise).moved
    assert moved in (0, np.sign(value))
