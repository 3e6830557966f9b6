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
        (PlacementOptions(n_ctx=-1), "-c -1: give a number of tokens, or 0 for the model's 32768"),
        (PlacementOptions(n_ctx=1 << 31), "-c 2147483648: give a number of tokens, or 0"),
        (
            PlacementOptions(rope_scaling="ntk"),
            "--rope-scaling ntk: give one of none, linear, yarn",
        ),
        (PlacementOptions(rope_scale=0), "--rope-scale 0: give a number above 0"),
        (PlacementOptions(rope_freq_base=nan), "--rope-freq-base nan: give a number above 0"),
        (
            PlacementOptions(rope_scale=2, rope_freq_scale=0.5),
            "--rope-scale N is --rope-freq-scale 1/N; give one of them",
        ),
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


@pytest.mark.parametrize(
    ("kind", "vram", "is_slow"),
    [("IQ3_S", 8, True), ("IQ3_S", 0, True), ("IQ3_S", 24, False), ("Q3_K", 8, False)],
)
def test_experts_in_ram_of_types_that_cpus_decode_slowly_are_noted(
    kind: str, vram: float, is_slow: bool
) -> None:
    weights = (replace(w, kind=kind) if w.projection else w for w in mixtral().weights)
    found = plan(replace(mixtral(), weights=tuple(weights)), machine(vram, 32))
    slow = "the experts in RAM are in IQ3_S, which CPUs decode slowly; 'franken-gguf fit' finds"
    assert any(note.startswith(slow) for note in found.notes) == is_slow


def test_smaller_plans_take_ever_less_of_the_card_and_end_without_it() -> None:
    plans = list(smaller_plans(mixtral(), machine(8, 32), PlacementOptions()))
    taken = [found.total("CUDA0") for found in plans]
    assert len(taken) > 2
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


def test_a_context_within_the_training_is_planned_without_rope_options() -> None:
    found = plan(mixtral(), machine(0, 64), PlacementOptions(n_ctx=32768))
    assert not any("rope" in flag for flag in found.flags) and found.notes == ()


@pytest.mark.parametrize(
    ("placement", "flags", "note"),
    [
        (
            PlacementOptions(),
            "--rope-scaling yarn --rope-scale 1.5",
            "RoPE is scaled with --rope-scaling yarn --rope-scale 1.5; --rope-scaling none "
            "turns it off",
        ),
        (
            PlacementOptions(rope_scaling="linear"),
            "--rope-scaling linear --rope-scale 1.5",
            "RoPE is scaled with --rope-scaling linear --rope-scale 1.5; --rope-scaling none "
            "turns it off",
        ),
        (
            PlacementOptions(yarn_beta_fast=16),
            "--rope-scaling yarn --rope-scale 1.5 --yarn-beta-fast 16",
            "RoPE is scaled with --rope-scaling yarn --rope-scale 1.5 --yarn-beta-fast 16; "
            "--rope-scaling none turns it off",
        ),
        (
            PlacementOptions(rope_freq_base=5e6),
            "--rope-freq-base 5000000",
            "RoPE is scaled by your options",
        ),
    ],
)
def test_a_context_beyond_the_training_is_planned_with_what_scales_rope(
    placement: PlacementOptions, flags: str, note: str
) -> None:
    found = plan(mixtral(), machine(0, 64), replace(placement, n_ctx=49152))
    assert " ".join(found.flags).endswith(f"-ngl 0 {flags}")
    assert found.notes == (
        f"the model was trained for 32768 tokens, not for a context of 49152: {note}",
    )


def test_a_scaling_of_the_files_own_is_kept() -> None:
    scaled = replace(mixtral(), rope_scaling="longrope")
    found = plan(scaled, machine(0, 64), PlacementOptions(n_ctx=49152))
    assert not any("rope" in flag for flag in found.flags)
    assert found.notes[0].endswith("the file's own RoPE scaling (longrope) is used")


def test_without_scaling_a_note_warns_of_the_positions_that_were_never_seen() -> None:
    placement = PlacementOptions(n_ctx=49152, rope_scaling="none")
    found = plan(mixtral(), machine(0, 64), placement)
    assert found.flags[-2:] == ("--rope-scaling", "none")
    assert "and RoPE is not scaled: text beyond them may make no sense" in found.notes[0]


def test_no_context_is_longer_than_a_table_of_positions() -> None:
    learned = replace(mixtral(), has_learned_positions=True)
    with pytest.raises(PlanError, match="has embeddings for 32768 positions, not 32769; give -c"):
        plan(learned, machine(0, 64), PlacementOptions(n_ctx=32769))
