"""The plan: dense parts first, then experts, nothing beyond what is free; a pure function."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from gguf import GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import MIXTRAL_4X7B, sparse_model

from franken_gguf.quantize.errors import FrankenError
from franken_gguf.quantize.gguf_header import Header, read_header
from franken_gguf.quantize.gguf_types import Value, array, boolean, f32, string, u32
from franken_gguf.quantize.split import joined
from franken_gguf.runner.planning.dealing import by_shares
from franken_gguf.runner.planning.memory import CPU
from franken_gguf.runner.planning.placement import (
    Device,
    Machine,
    Override,
    Plan,
    PlanError,
    Wishes,
)
from franken_gguf.runner.planning.planner import plan, smaller_plans
from franken_gguf.runner.planning.shape import ModelShape, model_shape

GIB = 1 << 30


@cache
def mixtral() -> ModelShape:
    with TemporaryDirectory() as folder:
        return model_shape(read_header(sparse_model(Path(folder) / "4x7b.gguf", **MIXTRAL_4X7B)))


@cache
def dense() -> ModelShape:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "7b.gguf"
        return model_shape(read_header(sparse_model(path, **MIXTRAL_4X7B | {"experts": 0})))


def machine(vram: float, ram: float) -> Machine:
    devices = (Device("CUDA0", int(vram * GIB)),) if vram else ()
    return Machine(int(ram * GIB), devices)


def decided(found: Plan) -> tuple[int, int, tuple[str, ...]]:
    return found.n_gpu_layers, found.n_cpu_moe, found.partly


@pytest.mark.parametrize(
    ("vram", "ram", "layers", "experts_in_ram", "partly"),
    [
        (24, 32, 33, 0, ()),
        (16, 16, 33, 0, ()),
        # 11 GiB less 1670 MiB for the dense parts are 25 layers' experts of 378 MiB, and one third.
        (12, 16, 33, 6, ("gate", "down")),
        (8, 16, 33, 17, ("gate", "down")),
        (6, 16, 33, 22, ("down",)),
        (2, 16, 33, 31, ("gate", "down")),
        (1, 16, 13, 32, ()),
        (0.25, 16, 0, 0, ()),
        (0, 16, 0, 0, ()),
    ],
)
def test_a_4x7b_fills_a_card_with_dense_layers_and_then_with_experts(
    vram: float, ram: float, layers: int, experts_in_ram: int, partly: tuple[str, ...]
) -> None:
    found = plan(mixtral(), machine(vram, ram))
    assert found.fits
    assert decided(found) == (layers, experts_in_ram, partly)


@pytest.mark.parametrize(("vram", "layers"), [(8, 33), (4, 26), (2, 12), (0.5, 2)])
def test_a_dense_model_goes_layer_by_layer_from_the_last(vram: float, layers: int) -> None:
    assert decided(plan(dense(), machine(vram, 16))) == (layers, 0, ())


def test_the_flags_say_the_same_to_llama_cpp() -> None:
    found = plan(mixtral(), machine(8, 16), Wishes(n_ctx=8192, type_k="q8_0"))
    assert found.flags[:6] == ("-c", "8192", "-ngl", "33", "-ncmoe", str(found.n_cpu_moe))
    assert found.flags[6:] == (
        *("-ot", rf"blk\.{found.n_cpu_moe}\.ffn_down_(ch|)exps=CPU"),
        *("-ctk", "q8_0", "-ctv", "f16"),
    )


def test_the_overrides_move_exactly_the_experts_that_are_counted_in_ram() -> None:
    shape = mixtral()
    found = plan(shape, machine(8, 16))
    moved = [
        weight
        for weight in shape.weights
        if any(re.search(override.pattern, weight.name) for override in found.overrides)
    ]
    assert {override.device for override in found.overrides} == {CPU}
    assert sum(weight.nbytes for weight in moved) == found.used[CPU]["experts"]
    assert {weight.layer for weight in moved} == set(range(found.n_cpu_moe + 1))


@settings(max_examples=60, deadline=None)
@given(vram=st.floats(0.1, 20), ram=st.floats(1, 32), n_ctx=st.integers(1, 32768))
def test_what_fits_leaves_the_headroom_and_no_weight_is_lost(
    vram: float, ram: float, n_ctx: int
) -> None:
    shape = mixtral()
    found = plan(shape, machine(vram, ram), Wishes(n_ctx=n_ctx, type_k="f16", type_v="f16"))
    everywhere = list(found.used.values())
    weights = sum(
        nbytes
        for kinds in everywhere
        for kind, nbytes in kinds.items()
        if kind not in ("KV cache", "compute buffers")
    )
    assert weights == sum(weight.nbytes for weight in shape.weights)
    cells = -(-n_ctx // 256) * 256
    assert sum(kinds.get("KV cache", 0) for kinds in everywhere) == 32 * cells * 2 * 1024 * 2
    assert found.fits == all(
        found.total(name) + found.headroom[name] <= free for name, free in found.available.items()
    )
    assert found.fits != bool(found.advice)


@settings(max_examples=30, deadline=None)
@given(vram=st.floats(0.2, 20), more=st.floats(0, 4))
def test_more_memory_never_means_less_on_the_card(vram: float, more: float) -> None:
    less, most = (plan(mixtral(), machine(size, 32)) for size in (vram, vram + more))
    assert most.total(CPU) <= less.total(CPU)


def cards(*vram: float, remote: float = 0) -> Machine:
    devices = [Device(f"CUDA{n}", int(size * GIB)) for n, size in enumerate(vram)]
    if remote:
        devices.append(Device("RPC0", int(remote * GIB), copies_weights=False, is_remote=True))
    return Machine(16 * GIB, tuple(devices))


@pytest.mark.parametrize(
    ("machine", "home", "note"),
    [
        (cards(16, 24), "CUDA1", "CUDA0 is not used: CUDA1 has room for all"),
        (cards(16, remote=64), "CUDA0", "RPC0 is not used: CUDA0 has room for all"),
        (cards(6, remote=64), "RPC0", "CUDA0 is not used: RPC0 has room for all"),
        (cards(16, 1, remote=8), "CUDA0", "CUDA1 and RPC0 are not used: CUDA0 has room for all"),
    ],
)
def test_a_device_that_is_enough_stays_alone_the_local_one_first(
    machine: Machine, home: str, note: str
) -> None:
    found = plan(mixtral(), machine)
    assert (found.devices, found.tensor_split, decided(found)) == ((home,), (33,), (33, 0, ()))
    assert found.notes == (note,)
    assert found.flags[:2] == ("-dev", home)


@pytest.mark.parametrize(
    ("machine", "split", "experts_in_ram", "partly"),
    [
        # 7 GiB less 200 MiB of compute buffers are 16 layers of 416 MiB, and two thirds of one.
        (cards(8, 8), (16, 17), 0, ()),
        (cards(12, 4), (26, 7), 0, ()),
        (cards(6, 4), (25, 8), 14, ("down",)),
        (cards(8, remote=6), (20, 13), 4, ()),
        (cards(6, 0.3, 6), (20, 13), 9, ()),
        (cards(2, 1), (31, 2), 30, ("down",)),
    ],
)
def test_a_model_that_outgrows_one_device_fills_one_after_the_other(
    machine: Machine, split: tuple[int, ...], experts_in_ram: int, partly: tuple[str, ...]
) -> None:
    found = plan(mixtral(), machine)
    assert found.fits
    assert found.tensor_split == split
    assert decided(found) == (33, experts_in_ram, partly)


@settings(max_examples=60, deadline=None)
@given(
    vram=st.lists(st.floats(0.1, 12), min_size=2, max_size=4),
    remote=st.floats(0, 12),
    n_ctx=st.integers(1, 32768),
)
def test_over_several_devices_each_keeps_its_headroom_and_the_cache_of_its_layers(
    vram: list[float], remote: float, n_ctx: int
) -> None:
    shape, here = mixtral(), cards(*vram, remote=remote)
    found = plan(shape, here, Wishes(n_ctx=n_ctx, type_k="f16", type_v="f16"))
    assert not found.short.keys() - {CPU}
    assert sum(found.tensor_split) == found.n_gpu_layers
    assert 0 not in found.tensor_split
    layer = -(-n_ctx // 256) * 256 * 2 * 1024 * 2
    output = found.devices[-1:]
    assert [found.used[name].get("KV cache", 0) for name in found.devices] == [
        layer * (n - (name in output))
        for name, n in zip(found.devices, found.tensor_split, strict=True)
    ]
    best = plan(shape, replace(here, devices=(max(here.devices, key=lambda one: one.free),)))
    assert found.fits or not best.fits or n_ctx > best.cache.n_ctx


@settings(max_examples=30, deadline=None)
@given(vram=st.floats(0.2, 14), other=st.floats(0.2, 14))
def test_a_second_card_never_means_more_in_ram(vram: float, other: float) -> None:
    wishes = Wishes(type_k="f16", type_v="f16", n_ctx=4096)
    one, two = (plan(mixtral(), cards(*sizes), wishes) for sizes in ((vram,), (vram, other)))
    experts = [found.used[CPU].get("experts", 0) for found in (one, two)]
    assert experts[1] <= experts[0]


@given(st.lists(st.integers(0, 513), min_size=1, max_size=16).filter(any))
def test_shares_that_are_numbers_of_layers_are_what_each_device_gets(counts: list[int]) -> None:
    assert by_shares(sum(counts), counts) == tuple(counts)


def test_the_users_shares_are_dealt_by_llama_cpps_rule() -> None:
    found = plan(mixtral(), cards(24, 24), Wishes(tensor_split=(3, 1)))
    assert (found.devices, found.tensor_split) == (("CUDA0", "CUDA1"), (25, 8))
    assert found.flags == ("-ts", "25,8", "-c", "4096", "-ngl", "33")
    assert found.summary() == "33 of 33 layers, 25 on CUDA0, 8 on CUDA1"
    second = plan(mixtral(), cards(24, 24), Wishes(tensor_split=(0, 1)))
    assert (second.devices, second.tensor_split) == (("CUDA1",), (33,))


def test_llama_cpp_is_told_the_order_where_it_would_take_the_remote_one_first() -> None:
    found = plan(mixtral(), cards(8, remote=8))
    assert found.devices == ("CUDA0", "RPC0")
    assert found.flags[:4] == ("-dev", "CUDA0,RPC0", "-ts", "16,17")


def test_of_memory_that_both_share_the_sum_must_fit_and_the_devices_part_in_its_limit() -> None:
    here = Machine(16 * GIB, (Device("MTL0", 12 * GIB, shares_ram=True),))
    found = plan(mixtral(), here)
    assert decided(found) == (33, 6, ("gate", "down"))
    assert found.total_ram == found.total(CPU) + found.total("MTL0")
    less = plan(mixtral(), replace(here, ram=13 * GIB))
    assert list(less.short) == [CPU]
    assert less.short[CPU] == less.total_ram + less.headroom[CPU] - 13 * GIB


ODD = st.one_of(
    st.integers(-(2**63), 2**64 - 1).map(lambda n: Value(GGUFValueType.INT64, n)),
    st.lists(st.integers(-9, 9), max_size=4).map(lambda n: array(GGUFValueType.INT32, n)),
    st.sampled_from([string("many"), f32(1.5), boolean(True), u32(0), u32(1)]),
)


@cache
def small() -> Header:
    with TemporaryDirectory() as folder:
        shape = MIXTRAL_4X7B | {"layers": 2}
        return read_header(sparse_model(Path(folder) / "small.gguf", **shape))


@given(st.data())
def test_whatever_a_header_claims_there_is_a_plan_or_one_line(data: st.DataObject) -> None:
    header = small()
    keys = [key for key in header.metadata if key.startswith("llama.")] + ["split.count"]
    lies = data.draw(st.dictionaries(st.sampled_from(keys), ODD, max_size=3))
    kept = data.draw(st.lists(st.sampled_from(header.tensors), unique=True))
    claimed = replace(header, metadata=header.metadata | lies, tensors=tuple(kept))
    try:
        found = plan(model_shape(joined(claimed)), machine(2, 16))
    except FrankenError as error:
        assert "\n" not in str(error)
    else:
        assert all(nbytes >= 0 for kinds in found.used.values() for nbytes in kinds.values())


def test_a_context_that_does_not_fit_gives_way_to_8_bits_and_then_to_fewer_tokens() -> None:
    eight_bits = plan(mixtral(), machine(0, 13.6))
    assert eight_bits.cache.type_k == eight_bits.cache.type_v == "q8_0"
    assert eight_bits.notes == (
        "a context of 4096 tokens in f16/f16 does not fit: "
        "taking a context of 4096 tokens in q8_0/q8_0",
    )
    fewer = plan(mixtral(), machine(0, 13.3))
    assert fewer.fits
    assert fewer.cache.n_ctx == 1024


def test_a_cpu_attends_without_flash_where_the_scores_are_small() -> None:
    # 32 heads x 4096 tokens x a batch of 512 x 4 bytes are 256 MiB, the most there may be.
    at_most = plan(mixtral(), machine(0, 32), Wishes(n_ctx=4096))
    assert (at_most.cache.flash_attention, at_most.flags[-2:]) == (False, ("-fa", "off"))
    assert plan(mixtral(), machine(0, 32), Wishes(n_ctx=4097)).cache.flash_attention
    assert plan(mixtral(), machine(0, 32), Wishes(type_v="q8_0")).cache.flash_attention
    assert plan(mixtral(), machine(24, 32)).cache.flash_attention
    tight = plan(mixtral(), machine(0, 13.7))
    assert (tight.fits, tight.cache.flash_attention, tight.notes) == (True, True, ())


def test_a_context_that_was_asked_for_does_not_give_way() -> None:
    wishes = Wishes(n_ctx=4096, type_k="f16", type_v="f16")
    found = plan(mixtral(), machine(0, 13.6), wishes)
    assert not found.fits
    assert (found.cache.n_ctx, found.cache.type_k) == (4096, "f16")


@pytest.mark.parametrize("ram", [13.6, 13.2, 13, 9, 6, 3])
def test_each_advice_is_true(ram: float) -> None:
    wishes = Wishes(n_ctx=4096, type_k="f16", type_v="f16")
    shape, here = mixtral(), machine(0, ram)
    text = "; ".join(plan(shape, here, wishes).advice)
    if shorter := re.search(r"-c (\d+)", text):
        n_ctx = int(shorter[1])
        assert plan(shape, here, replace(wishes, n_ctx=n_ctx)).fits
        assert not plan(shape, here, replace(wishes, n_ctx=n_ctx + 256)).fits
    saved = plan(shape, here, replace(wishes, type_k="q8_0", type_v="q8_0"))
    assert ("saves 240.0 MiB, which is not enough" in text) == (not saved.fits)
    if smaller := re.search(r"([\d.]+) bits per weight, as (\w+)", text):
        part = float(smaller[1]) / 4.5
        weights = tuple(replace(w, nbytes=int(w.nbytes * part)) for w in shape.weights)
        assert plan(replace(shape, weights=weights), here, wishes).fits
    else:
        assert "no smaller quant fits either" in text


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (Wishes(n_gpu_layers=20), (20, 16, ("down",))),
        (Wishes(n_gpu_layers=-1), (33, 17, ("gate", "down"))),
        (Wishes(n_gpu_layers=0), (0, 0, ())),
        (Wishes(n_gpu_layers=99, n_cpu_moe=30), (33, 30, ())),
        (Wishes(n_cpu_moe=25), (33, 25, ())),
        (Wishes(n_cpu_moe=99), (33, 32, ())),
        (Wishes(n_cpu_moe=0), (17, 0, ())),
    ],
)
def test_what_the_user_decides_stays(wishes: Wishes, expected: tuple[int, int, object]) -> None:
    found = plan(mixtral(), machine(8, 16), wishes)
    assert decided(found) == expected
    assert found.fits


def test_a_users_override_goes_first_and_is_counted() -> None:
    ours = Override(r"blk\.31\.", CPU)
    found = plan(mixtral(), machine(24, 32), Wishes(overrides=(ours,)))
    assert found.overrides == (ours,)
    layer = sum(weight.nbytes for weight in mixtral().weights if weight.layer == 31)
    embeddings = found.used[CPU]["embeddings"]
    assert found.total(CPU) - embeddings - found.used[CPU]["compute buffers"] == layer


def test_too_many_layers_for_the_card_are_left_and_said() -> None:
    found = plan(mixtral(), machine(8, 32), Wishes(n_gpu_layers=99, n_cpu_moe=0))
    assert decided(found) == (33, 0, ())
    assert list(found.short) == ["CUDA0"]
    assert found.advice[0].startswith("without -ngl, --n-cpu-moe and -ot it fits: -c 4096 -ngl 33")


@pytest.mark.parametrize(
    ("wishes", "line"),
    [
        (
            Wishes(n_ctx=32769),
            "was trained for a context of 32768 tokens, not 32769; give -c 32768",
        ),
        (Wishes(n_ctx=-1), "was trained for a context of 32768 tokens, not -1"),
        (Wishes(type_k="q9"), "no KV cache type 'q9'; there are f32, f16, bf16, q8_0"),
        (Wishes(n_gpu_layers=-2), "-ngl -2: give a number of layers, -1 for all, or auto"),
        (Wishes(tensor_split=(1, 2)), "-ts 1,2: more shares than devices; there are CUDA0"),
        (Wishes(tensor_split=(-1,)), "-ts -1: give a share for each device, as in 3,1; 0 is none"),
        (Wishes(tensor_split=(0,)), "-ts 0: give a share for each device"),
        (Wishes(tensor_split=(nan,)), "-ts nan: give a share for each device"),
        (Wishes(tensor_split=(inf,)), "-ts inf: give a share for each device"),
        (Wishes(n_cpu_moe=-1), "--n-cpu-moe -1: give a number of layers, or auto"),
        (Wishes(overrides=(Override("(", CPU),)), r"-ot (: no regular expression: missing )"),
        (
            Wishes(overrides=(Override("x", "CUDA1"),)),
            "-ot: no device 'CUDA1' here; there are CPU, CUDA0",
        ),
    ],
)
def test_a_wish_that_cannot_be_is_one_line(wishes: Wishes, line: str) -> None:
    with pytest.raises(PlanError, match=re.escape(line)):
        plan(mixtral(), machine(8, 16), wishes)


def test_heads_that_do_not_divide_into_blocks_are_refused_and_never_chosen() -> None:
    odd = replace(mixtral(), head_size=80)
    with pytest.raises(PlanError, match="heads of 80 do not divide into blocks of q8_0; take f16"):
        plan(odd, machine(8, 16), Wishes(type_k="q8_0"))
    assert plan(odd, machine(0, 13.6)).cache.type_k == "f16"


@pytest.mark.parametrize(
    ("wishes", "vram", "note"),
    [
        (Wishes(n_gpu_layers=9), 0, "llama.cpp sees no GPU here, -ngl does nothing"),
        (Wishes(overrides=(Override("foo", CPU),)), 8, "-ot foo=CPU: no tensor has such a name"),
    ],
)
def test_a_wish_without_effect_is_said(wishes: Wishes, vram: float, note: str) -> None:
    assert plan(mixtral(), machine(vram, 16), wishes).notes[0].startswith(note)


def test_smaller_plans_take_ever_less_of_the_card_and_end_without_it() -> None:
    plans = list(smaller_plans(mixtral(), machine(8, 32), Wishes()))
    taken = [found.total("CUDA0") for found in plans]
    assert all(after <= before * 7 // 8 for before, after in pairwise(taken))
    assert all(found.fits for found in plans)
    assert plans[-1].devices == ()


def test_smaller_plans_take_less_of_each_device_and_try_one_that_was_idle() -> None:
    plans = list(smaller_plans(mixtral(), cards(8, 8, remote=16), Wishes()))
    assert plans[0].devices == ("RPC0",)
    for before, after in pairwise(plans):
        for name in before.devices:
            assert after.total(name) <= before.total(name) * 7 // 8
    assert plans[1].devices == ("CUDA0", "CUDA1")
    assert plans[-1].devices == ()


def test_where_the_user_left_no_choice_no_smaller_plan_follows() -> None:
    wishes = Wishes(4096, "f16", "f16", n_gpu_layers=33, n_cpu_moe=30)
    assert len(list(smaller_plans(mixtral(), machine(8, 32), wishes))) == 1
