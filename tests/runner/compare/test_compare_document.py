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
from franken_gguf.runner.compare.results.document import Lean
from franken_gguf.runner.compare.results.metrics import Interval

DOCS = Path(__file__).resolve().parents[3] / "docs" / "compare-json.md"
CLASSES = [one for one in vars(document).values() if dataclasses.is_dataclass(one)]


@pytest.mark.parametrize("kind", [*CLASSES, metrics.LayerRouting], ids=lambda kind: kind.__name__)
def test_every_member_is_in_the_docs(kind: Any) -> None:
    known = set(re.findall(r"\w+", DOCS.read_text()))
    assert {field.name for field in dataclasses.fields(kind)} <= known


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
