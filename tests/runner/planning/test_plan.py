"""The plan: dense parts first, then experts, nothing beyond what is free; a pure function."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from gguf import GGUFValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.gguf_file.split_files import joined
from franken_gguf.quantize.gguf_file.values import Value, array, boolean, f32, string, u32
from franken_gguf.runner.planning.memory_use import CPU
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.planning.planner import plan
from support.plans import decided, dense, machine, mixtral
from support.shapes import MIXTRAL_4X7B, sparse_model


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
    found = plan(mixtral(), machine(8, 16), PlacementOptions(n_ctx=8192, type_k="q8_0"))
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
def test_a_plan_that_fits_leaves_the_headroom_and_places_every_weight(
    vram: float, ram: float, n_ctx: int
) -> None:
    shape = mixtral()
    found = plan(
        shape, machine(vram, ram), PlacementOptions(n_ctx=n_ctx, type_k="f16", type_v="f16")
    )
    everywhere = list(found.used.values())
    weights = sum(
        nbytes
        for kinds in everywhere
        for kind, nbytes in kinds.items()
        if kind not in ("KV cache", "compute buffers", "repacked copies")
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


ODD = st.one_of(
    st.integers(-(2**63), 2**64 - 1).map(lambda n: Value(GGUFValueType.INT64, n)),
    st.lists(st.integers(-9, 9), max_size=4).map(lambda n: array(GGUFValueType.INT32, n)),
    st.sampled_from([string("many"), f32(1.5), boolean(True), u32(0), u32(1)]),
)


@cache
def small() -> Header:
    with TemporaryDirectory() as folder:
        path = sparse_model(Path(folder) / "small.gguf", **MIXTRAL_4X7B | {"layers": 2})
        return read_header(path)


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
        "using a context of 4096 tokens in q8_0/q8_0",
    )
    fewer = plan(mixtral(), machine(0, 13.3))
    assert fewer.fits
    assert fewer.cache.n_ctx == 1024


def test_a_cpu_uses_no_flash_attention_if_the_scores_are_small() -> None:
    # 32 heads x 4096 tokens x a batch of 512 x 4 bytes are 256 MiB, the most there may be.
    at_most = plan(mixtral(), machine(0, 32), PlacementOptions(n_ctx=4096))
    assert (at_most.cache.flash_attention, at_most.flags[-2:]) == (False, ("-fa", "off"))
    assert plan(mixtral(), machine(0, 32), PlacementOptions(n_ctx=4097)).cache.flash_attention
    assert plan(mixtral(), machine(0, 32), PlacementOptions(type_v="q8_0")).cache.flash_attention
    assert plan(mixtral(), machine(24, 32)).cache.flash_attention
    tight = plan(mixtral(), machine(0, 13.7))
    assert (tight.fits, tight.cache.flash_attention, tight.notes) == (True, True, ())


def test_a_context_that_was_asked_for_does_not_give_way() -> None:
    placement = PlacementOptions(n_ctx=4096, type_k="f16", type_v="f16")
    found = plan(mixtral(), machine(0, 13.6), placement)
    assert not found.fits
    assert (found.cache.n_ctx, found.cache.type_k) == (4096, "f16")


@pytest.mark.parametrize("ram", [13.6, 13.2, 13, 9, 6, 3])
def test_each_advice_is_true(ram: float) -> None:
    placement = PlacementOptions(n_ctx=4096, type_k="f16", type_v="f16")
    shape, here = mixtral(), machine(0, ram)
    text = "; ".join(plan(shape, here, placement).advice)
    if shorter := re.search(r"-c (\d+)", text):
        n_ctx = int(shorter[1])
        assert plan(shape, here, replace(placement, n_ctx=n_ctx)).fits
        assert not plan(shape, here, replace(placement, n_ctx=n_ctx + 256)).fits
    else:
        assert not plan(shape, here, replace(placement, n_ctx=256)).fits
    saved = plan(shape, here, replace(placement, type_k="q8_0", type_v="q8_0"))
    assert ("saves 240.0 MiB, which is not enough" in text) == (not saved.fits)
    if smaller := re.search(r"fits: \w+, ([\d.]+) bits per weight", text):
        part = float(smaller[1]) / 4.5
        weights = tuple(replace(w, nbytes=int(w.nbytes * part)) for w in shape.weights)
        assert plan(replace(shape, weights=weights), here, placement).fits
    else:
        assert "no smaller quant fits either" in text
