"""The plan over several devices: one after the other, the local ones first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.runner.planning.layer_split import by_shares
from franken_gguf.runner.planning.memory_use import CPU
from franken_gguf.runner.planning.placement import Device, Machine, PlacementOptions
from franken_gguf.runner.planning.planner import plan
from support.plans import GIB, cards, decided, mixtral


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
    found = plan(shape, here, PlacementOptions(n_ctx=n_ctx, type_k="f16", type_v="f16"))
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
    placement = PlacementOptions(type_k="f16", type_v="f16", n_ctx=4096)
    one, two = (plan(mixtral(), cards(*sizes), placement) for sizes in ((vram,), (vram, other)))
    experts = [found.used[CPU].get("experts", 0) for found in (one, two)]
    assert experts[1] <= experts[0]


@given(st.lists(st.integers(0, 513), min_size=1, max_size=16).filter(any))
def test_shares_that_are_numbers_of_layers_give_each_device_that_many(counts: list[int]) -> None:
    assert by_shares(sum(counts), counts) == tuple(counts)


def test_the_users_shares_are_dealt_by_llama_cpps_rule() -> None:
    found = plan(mixtral(), cards(24, 24), PlacementOptions(tensor_split=(3, 1)))
    assert (found.devices, found.tensor_split) == (("CUDA0", "CUDA1"), (25, 8))
    assert found.flags == ("-ts", "25,8", "-c", "4096", "-ngl", "33")
    assert found.summary() == "33 of 33 layers, 25 on CUDA0, 8 on CUDA1"
    second = plan(mixtral(), cards(24, 24), PlacementOptions(tensor_split=(0, 1)))
    assert (second.devices, second.tensor_split) == (("CUDA1",), (33,))


def test_dev_gives_the_order_if_llama_cpp_would_take_the_remote_device_first() -> None:
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
