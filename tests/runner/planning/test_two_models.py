"""Two models side by side: equal contexts, and room for both or a clear refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from franken_gguf.runner.planning.placement import PlacementOptions, PlanError
from franken_gguf.runner.planning.planner import plan
from franken_gguf.runner.planning.two_models import side_by_side
from support.plans import dense, machine, mixtral


def test_the_second_model_gets_what_the_first_one_leaves() -> None:
    room, options = machine(24, 64), PlacementOptions()
    same, rest = side_by_side(dense(), mixtral(), room, options)
    first = plan(dense(), room, options)
    assert same == options
    assert rest.ram == room.ram - first.total_ram
    assert rest.devices[0].free == room.devices[0].free - first.total("CUDA0")
    assert plan(mixtral(), rest, options).fits


def test_both_get_the_context_that_the_second_one_has_room_for() -> None:
    first, options = dense(), PlacementOptions(repack=False)
    alone = plan(first, machine(0, 1000), options)
    ram = 2 * alone.total_ram + alone.headroom["CPU"] - (1 << 29)
    room = replace(machine(0, 0), ram=ram)
    same, rest = side_by_side(first, first, room, options)
    assert same != options and same.n_ctx is not None
    plans = plan(first, room, same), plan(first, rest, same)
    assert plans[0].cache == plans[1].cache
    assert plans[0].fits and plans[1].fits


def test_two_models_that_do_not_fit_together_are_refused_with_both_sizes() -> None:
    room = machine(0, 20)
    assert plan(mixtral(), room).fits
    with pytest.raises(PlanError) as refused:
        side_by_side(mixtral(), mixtral(), room, PlacementOptions())
    line = str(refused.value)
    assert line.startswith("the two models do not fit side by side: with a context of ")
    assert line.count("needs") == 2 and "20.0 GiB of RAM is free" in line
    assert "smaller quants" in line and "\n" not in line


def test_a_context_that_was_given_is_kept() -> None:
    options = PlacementOptions(n_ctx=2048)
    assert side_by_side(dense(), mixtral(), machine(0, 200), options)[0] == options


def test_the_smaller_of_two_training_contexts_is_used_for_both() -> None:
    short = replace(dense(), n_ctx_train=1024)
    for pair in ((short, mixtral()), (mixtral(), short)):
        assert side_by_side(*pair, machine(0, 200), PlacementOptions())[0].n_ctx == 1024
