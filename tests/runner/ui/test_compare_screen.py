"""The table of `compare` on terminals of several widths."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from franken_gguf.runner.compare.results.document import Routing
from franken_gguf.runner.compare.results.metrics import LayerRouting
from franken_gguf.runner.ui.compare_screen import show
from support.comparisons import comparison, model

EVEN, SKEWED, OTHER_WAY = (LayerRouting(load) for load in ((0.5, 0.5), (0.9, 0.1), (0.1, 0.9)))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_entropy_tells_an_uneven_router_from_an_even_one_with_the_same_mean_loads(
    width: int,
) -> None:
    found = comparison(
        model("F16", 64, experts=2, routing=Routing(9, (EVEN, EVEN))),
        model("Q8_0", 32, experts=2, routing=Routing(9, (SKEWED, OTHER_WAY))),
    )
    file = io.StringIO()
    show(Console(file=file, width=width), replace(found, expert_names=("bard", "sage")))
    _, _, routing = file.getvalue().partition("\nrouting\n")
    assert re.findall(r"^ (entropy|load).* (\d+\.\d %) +(\d+\.\d %)", routing, re.M) == [
        ("entropy", "100.0 %", "46.9 %"),
        ("load", "50.0 %", "50.0 %"),
        ("load", "50.0 %", "50.0 %"),
    ]


def test_a_dense_model_beside_a_mixture_has_no_entropy() -> None:
    found = comparison(model("F16", 64, experts=2, routing=Routing(9, (EVEN,))), model("Q8_0", 32))
    file = io.StringIO()
    show(Console(file=file, width=80), found)
    assert re.findall(r"^ entropy of the load +100.0 % *$", file.getvalue(), re.M)
