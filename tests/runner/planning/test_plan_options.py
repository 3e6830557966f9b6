"""Plans with the user's options, and the smaller plans that follow if a device lacks memory."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from math import inf, nan

import pytest

from franken_gguf.runner.planning.memory_use import CPU
from franken_gguf.runner.planning.placement import Override, PlacementOptions, PlanError
from franken_gguf.runner.planning.planner import plan, smaller_plans
from support.plans import cards, decided, machine, mixtral


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (PlacementOptions(n_gpu_layers=20), (20, 16, ("down",))),
        (PlacementOptions(n_gpu_layers=-1), (33, 17, ("gate", "down"))),
        (PlacementOptions(n_gpu_layers=0), (0, 0, ())),
        (PlacementOptions(n_gpu_layers=99, n_cpu_moe=30), (33, 30, ())),
        (PlacementOptions(n_cpu_moe=25), (33, 25, ())),
        (PlacementOptions(n_cpu_moe=99), (33, 32, ())),
        (PlacementOptions(n_cpu_moe=0), (17, 0, ())),
    ],
)
def test_the_users_options_are_kept(
    placement: PlacementOptions, expected: tuple[int, int, object]
) -> None:
    found = plan(mixtral(), machine(8, 16), placement)
    assert decided(found) == expected
    assert found.fits


def test_a_users_override_goes_first_and_is_counted() -> None:
    ours = Override(r"blk\.31\.", CPU)
    found = plan(mixtral(), machine(24, 32), PlacementOptions(overrides=(ours,)))
    assert found.overrides == (ours,)
    layer = sum(weight.nbytes for weight in mixtral().weights if weight.layer == 31)
    embeddings = found.used[CPU]["embeddings"]
    assert found.total(CPU) - embeddings - found.used[CPU]["compute buffers"] == layer


def test_too_many_layers_for_the_gpu_are_kept_and_reported() -> None:
    found = plan(mixtral(), machine(8, 32), PlacementOptions(n_gpu_layers=99, n_cpu_moe=0))
    assert decided(found) == (33, 0, ())
    assert list(found.short) == ["CUDA0"]
    assert found.advice[0].startswith("without -ngl, --n-cpu-moe and -ot it fits: -c 4096 -ngl 33")


@pytest.mark.parametrize(
    ("placement", "line"),
    [
        (
            PlacementOptions(n_ctx=32769),
            "was trained for a context of 32768 tokens, not 32769; give -c 32768",
        ),
        (PlacementOptions(n_ctx=-1), "was trained for a context of 32768 tokens, not -1"),
        (PlacementOptions(type_k="q9"), "no KV cache type 'q9'; there are f32, f16, bf16, q8_0"),
        (
            PlacementOptions(n_gpu_layers=-2),
            "-ngl -2: give a number of layers, -1 for all, or auto",
        ),
        (
            PlacementOptions(tensor_split=(1, 2)),
            "-ts 1,2: more shares than devices; there are CUDA0",
        ),
        (
            PlacementOptions(tensor_split=(-1,)),
            "-ts -1: give a share for each device, such as 3,1; 0 means none",
        ),
        (PlacementOptions(tensor_split=(0,)), "-ts 0: give a share for each device"),
        (PlacementOptions(tensor_split=(nan,)), "-ts nan: give a share for each device"),
        (PlacementOptions(tensor_split=(inf,)), "-ts inf: give a share for each device"),
        (PlacementOptions(n_cpu_moe=-1), "--n-cpu-moe -1: give a number of layers, or auto"),
        (
            PlacementOptions(overrides=(Override("(", CPU),)),
            r"-ot (: not a valid regular expression: missing )",
        ),
        (
            PlacementOptions(overrides=(Override("x", "CUDA1"),)),
            "-ot: no device 'CUDA1' here; there are CPU, CUDA0",
        ),
    ],
)
def test_an_invalid_option_is_a_one_line_error(placement: PlacementOptions, line: str) -> None:
    with pytest.raises(PlanError, match=re.escape(line)):
        plan(mixtral(), machine(8, 16), placement)


def test_heads_that_do_not_divide_into_blocks_are_refused_and_never_chosen() -> None:
    odd = replace(mixtral(), head_size=80)
    with pytest.raises(PlanError, match="heads of 80 do not divide into blocks of q8_0; use f16"):
        plan(odd, machine(8, 16), PlacementOptions(type_k="q8_0"))
    assert plan(odd, machine(0, 13.6)).cache.type_k == "f16"


@pytest.mark.parametrize(
    ("placement", "vram", "note"),
    [
        (PlacementOptions(n_gpu_layers=9), 0, "llama.cpp finds no GPU here: -ngl has no effect"),
        (
            PlacementOptions(overrides=(Override("foo", CPU),)),
            8,
            "-ot foo=CPU: matches no tensor",
        ),
    ],
)
def test_an_option_without_effect_is_noted(
    placement: PlacementOptions, vram: float, note: str
) -> None:
    assert plan(mixtral(), machine(vram, 16), placement).notes[0].startswith(note)


def test_smaller_plans_take_ever_less_of_the_card_and_end_without_it() -> None:
    plans = list(smaller_plans(mixtral(), machine(8, 32), PlacementOptions()))
    taken = [found.total("CUDA0") for found in plans]
    assert all(after <= before * 7 // 8 for before, after in pairwise(taken))
    assert all(found.fits for found in plans)
    assert plans[-1].devices == ()


def test_smaller_plans_take_less_of_each_device_and_try_one_that_was_idle() -> None:
    plans = list(smaller_plans(mixtral(), cards(8, 8, remote=16), PlacementOptions()))
    assert plans[0].devices == ("RPC0",)
    for before, after in pairwise(plans):
        for name in before.devices:
            assert after.total(name) <= before.total(name) * 7 // 8
    assert plans[1].devices == ("CUDA0", "CUDA1")
    assert plans[-1].devices == ()


def test_no_smaller_plan_follows_if_the_options_leave_no_choice() -> None:
    placement = PlacementOptions(4096, "f16", "f16", n_gpu_layers=33, n_cpu_moe=30)
    assert len(list(smaller_plans(mixtral(), machine(8, 32), placement))) == 1
