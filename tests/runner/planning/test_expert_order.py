"""Which experts stay in RAM where layers have different types: those that a CPU decodes fastest."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import cycle, pairwise
from math import prod

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.blocks.cpu_decode import DECODE_SPEED
from franken_gguf.runner.planning.expert_order import fastest_first
from franken_gguf.runner.planning.memory_use import CPU
from franken_gguf.runner.planning.model_shape import ModelShape, Weight
from franken_gguf.runner.planning.placement import Override, PlacementOptions, Plan
from franken_gguf.runner.planning.planner import plan
from support.plans import cards, machine, mixtral

LAYERS = 32
FIXED = PlacementOptions(n_ctx=4096, type_k="f16", type_v="f16")
KINDS = st.lists(st.sampled_from(sorted(DECODE_SPEED)), min_size=1, max_size=LAYERS)


def mixed(kinds: list[str]) -> ModelShape:
    """The 4x7B with the experts of each layer in a type; the types are repeated."""
    by_layer = dict(zip(range(LAYERS), cycle(kinds), strict=False))
    weights = (in_type(w, by_layer[w.layer]) if w.projection else w for w in mixtral().weights)
    return replace(mixtral(), weights=tuple(weights))


def in_type(weight: Weight, kind: str) -> Weight:
    block_len, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    return replace(weight, kind=kind, nbytes=prod(weight.shape) // block_len * block_bytes)


def on_cpu(shape: ModelShape, found: Plan) -> list[Weight]:
    """The experts that stay on the CPU when llama.cpp gets the plan's options, read from these."""
    words = list(found.flags)
    patterns = [word.removesuffix(f"={CPU}") for flag, word in pairwise(words) if flag == "-ot"]
    first = int(words[words.index("-ncmoe") + 1]) if "-ncmoe" in words else 0
    start = LAYERS + 1 - found.n_gpu_layers
    return [
        weight
        for weight in shape.weights
        if weight.projection
        and (
            weight.layer < max(first, start)
            or any(re.search(pattern, weight.name) for pattern in patterns)
        )
    ]


def seconds(weights: list[Weight]) -> float:
    """Time of a CPU for one token's share of these experts, by the measured speeds."""
    return sum(prod(weight.shape) / DECODE_SPEED[weight.kind] for weight in weights)


def test_the_experts_that_a_cpu_decodes_slowly_are_on_the_card() -> None:
    shape = mixed(["IQ3_S", "Q4_K"])
    found = plan(shape, machine(8, 16), FIXED)
    assert found.fits
    assert found.cpu_moe_layers == tuple(range(1, 27, 2))
    assert {w.kind for w in on_cpu(shape, found)} == {"Q4_K"}
    assert found.summary() == (
        "33 of 33 layers on CUDA0, the experts of 13 in RAM (those that a CPU decodes fastest), "
        "and gate and down of one more"
    )


def test_its_options_for_llama_cpp_list_the_layers() -> None:
    found = plan(mixed(["IQ3_S", "Q4_K"]), machine(8, 16), FIXED)
    experts = r"blk\.(1|3|5|7|9|11|13|15|17|19|21|23|25)\.ffn_(up|down|gate|gate_up)_(ch|)exps"
    assert found.overrides == (
        Override(experts, CPU),
        Override(r"blk\.27\.ffn_(gate|down)_(ch|)exps", CPU),
    )
    assert found.flags[2:] == (
        *("-ngl", "33", "-ot", f"{experts}=CPU"),
        *("-ot", r"blk\.27\.ffn_(gate|down)_(ch|)exps=CPU"),
    )


def test_where_those_are_the_first_layers_the_option_is_ncmoe() -> None:
    found = plan(mixed(["Q4_K"] * 16 + ["IQ3_S"] * 16), machine(8, 16), FIXED)
    assert "-ncmoe" in found.flags
    assert found.cpu_moe_layers == tuple(range(found.n_cpu_moe))
    assert "fastest" not in found.summary()


def test_types_that_a_cpu_decodes_about_as_fast_leave_the_first_layers_in_ram() -> None:
    q4_k_m = [*["Q6_K"] * 4, *["Q4_K", "Q4_K", "Q6_K"] * 8, *["Q6_K"] * 4]
    shape = mixed(["Q4_K"])
    better = dict(zip(range(LAYERS), q4_k_m, strict=True))
    shape = replace(
        shape,
        weights=tuple(
            in_type(w, better[w.layer]) if w.projection == "down" else w for w in shape.weights
        ),
    )
    for vram in (4, 6, 8, 10, 12):
        found = plan(shape, machine(vram, 32), FIXED)
        assert found.n_cpu_moe
        assert found.cpu_moe_layers == tuple(range(found.n_cpu_moe))


def test_a_number_of_layers_given_by_hand_means_the_first() -> None:
    given_ = replace(FIXED, n_cpu_moe=20)
    assert plan(mixed(["IQ3_S", "Q4_K"]), machine(8, 16), given_).cpu_moe_layers == tuple(range(20))


def test_layers_that_are_on_the_cpu_anyway_come_first() -> None:
    shape = mixed(["IQ3_S", "Q4_K"])
    assert fastest_first(shape, 3)[:6] == (1, 0, 2, 3, 5, 7)
    found = plan(shape, machine(7, 32), replace(FIXED, n_gpu_layers=30))
    assert {0, 1, 2} <= set(found.cpu_moe_layers)
    assert {w.kind for w in on_cpu(shape, found) if w.layer > 2} == {"Q4_K"}


@given(kind=st.sampled_from(sorted(DECODE_SPEED)), vram=st.floats(0.1, 24))
@settings(max_examples=20, deadline=None)
def test_of_experts_of_one_type_those_of_the_first_layers_are_in_ram(
    kind: str, vram: float
) -> None:
    found = plan(mixed([kind]), machine(vram, 64), FIXED)
    assert found.cpu_moe_layers == tuple(range(found.n_cpu_moe))
    assert sum(flag == "-ot" for flag in found.flags) == bool(found.partly)


@given(kinds=KINDS, vram=st.lists(st.floats(0.3, 12), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_no_card_gets_more_than_it_has_room_for(kinds: list[str], vram: list[float]) -> None:
    shape = mixed(kinds)
    found = plan(shape, replace(cards(*vram), ram=1 << 37), FIXED)
    assert found.fits
    counted = sum(found.used[name].get("experts", 0) for name in found.devices)
    experts = sum(weight.nbytes for weight in shape.weights if weight.projection)
    assert counted == experts - sum(weight.nbytes for weight in on_cpu(shape, found))
    for name in found.devices:
        assert found.total(name) + found.headroom[name] <= found.available[name]


@given(kinds=KINDS, vram=st.floats(1.5, 12), first=st.integers(0, LAYERS))
@settings(max_examples=30, deadline=None)
def test_a_cpu_never_takes_longer_than_with_the_first_layers_experts_in_ram(
    kinds: list[str], vram: float, first: int
) -> None:
    shape, here = mixed(kinds), machine(vram, 64)
    found = plan(shape, here, FIXED)
    by_hand = plan(shape, here, replace(FIXED, n_gpu_layers=-1, n_cpu_moe=first))
    if found.n_gpu_layers == LAYERS + 1 and by_hand.fits:
        taken, others = (seconds(on_cpu(shape, one)) for one in (found, by_hand))
        assert taken <= others * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["F16", "BF16", "MXFP4"])
def test_a_type_that_was_not_measured_is_placed_too(kind: str) -> None:
    found = plan(mixed([kind, "IQ2_XS"]), machine(8, 64), FIXED)
    assert found.fits
    assert all(layer % 2 == 0 for layer in found.cpu_moe_layers)
