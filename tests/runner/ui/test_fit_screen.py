"""The screen of `fit`: the command that makes each file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from franken_gguf.runner.planning.planner import plan
from franken_gguf.runner.sensitivity.largest_fit import Fit
from franken_gguf.runner.ui.fit_screen import show_fits
from support.plans import GIB, machine, mixtral


@pytest.mark.parametrize(
    ("n_cpu_moe", "option"),
    [(0, ""), (1, " --n-cpu-moe 1"), (31, " --n-cpu-moe 31"), (32, " --cpu-moe")],
)
def test_the_command_says_which_layers_experts_get_fast_types(n_cpu_moe: int, option: str) -> None:
    shape, written = mixtral(), io.StringIO()
    assert shape.n_layer == 32
    fit = Fit(6 * GIB, 0.125, plan(shape, machine(8, 16)), n_cpu_moe)
    show_fits(Console(file=written), ["franken-gguf", "convert", "my merge.yml"], [fit])
    command = written.getvalue().splitlines()[-1]
    assert command == f"  franken-gguf convert 'my merge.yml' --target-size 6442450944{option}"
