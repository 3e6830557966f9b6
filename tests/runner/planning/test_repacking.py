"""Mapped or read, repacked or not: the choice, and the bytes of each way by llama.cpp's account."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType
from large_model import random_model

from franken_gguf.runner.engine.repacked_types import repacks
from franken_gguf.runner.planning.model_shape import Weight
from franken_gguf.runner.planning.placement import Device, Machine, PlacementOptions
from franken_gguf.runner.planning.planner import plan
from franken_gguf.runner.planning.repacking import FASTEST_FIRST, Way, choose
from support.models import demo_gguf, smollm2
from support.plans import GIB, machine, mixtral
from support.resident import loaded_in_a_child
from support.shapes import Shape, Widths, sparse_model
from support.workers import engines

MAPPED_AND_REPACKED, REPACKED, MAPPED, NEITHER = FASTEST_FIRST
MIB = 1 << 20
ROUNDING = MIB // 100  # llama.cpp prints hundredths of a MiB
MATRIX = Weight("blk.0.attn_q.weight", 100, "attention", 0, kind="Q4_0", shape=(8, 32))
TIED = Weight("token_embd.weight", 10, "embeddings", 1, kind="Q4_0", shape=(8, 32), is_tied=True)


@pytest.mark.parametrize(
    ("room", "decided", "way"),
    [
        (110, {}, MAPPED_AND_REPACKED),
        (109, {}, REPACKED),
        (10, {}, REPACKED),
        (9, {}, MAPPED),
        (-1, {}, MAPPED),
        (110, {"can_repack": False}, MAPPED),
        (110, {"can_repack": False, "mmap": False}, NEITHER),
        (110, {"can_repack": False, "repack": True}, MAPPED),
        (110, {"mmap": False}, REPACKED),
        (110, {"repack": False}, MAPPED),
        (110, {"mmap": False, "repack": False}, NEITHER),
        (9, {"mmap": False}, NEITHER),
        (109, {"mmap": True}, MAPPED),
        (9, {"repack": True}, REPACKED),
        (9, {"mmap": True, "repack": True}, MAPPED_AND_REPACKED),
    ],
)
def test_the_fastest_way_is_taken_that_fits_and_the_user_has_not_ruled_out(
    room: int, decided: dict[str, bool], way: Way
) -> None:
    assert choose((MATRIX, TIED), room, **decided) == way


def test_the_file_is_mapped_if_nothing_can_be_repacked() -> None:
    assert choose((), 0) == MAPPED_AND_REPACKED
    assert MAPPED_AND_REPACKED.copied(()) == 0


@pytest.mark.parametrize(
    ("ram", "mmap", "flags"),
    [(32, True, ()), (24, False, ("--no-mmap",)), (16, False, ("--no-mmap",))],
)
def test_a_4x7b_is_mapped_if_two_copies_fit_and_read_if_one_does(
    ram: float, mmap: bool, flags: tuple[str, ...]
) -> None:
    shape = mixtral()
    found = plan(shape, machine(0, ram))
    assert (found.mmap, found.repack, found.fits) == (mmap, True, True)
    assert found.flags[found.flags.index("off") + 1 :] == flags
    copied = sum(w.nbytes for w in shape.weights if w.layer >= 0 and w.kind == "Q4_0")
    assert found.repackable == copied
    assert found.used["CPU"].get("repacked copies", 0) == (copied if mmap else 0)


def test_nothing_is_repacked_on_a_cpu_where_that_crashes() -> None:
    broken = replace(machine(0, 32), can_repack=False)
    found = plan(mixtral(), broken, PlacementOptions(repack=True))
    assert (found.mmap, found.repack, found.repackable) == (True, False, 0)
    assert found.flags[-1] == "--no-repack"
    assert found.notes == ("llama.cpp crashes here with repacked weights: --repack has no effect",)


def test_two_copies_that_were_asked_for_and_do_not_fit_are_advised_against() -> None:
    found = plan(mixtral(), machine(0, 24), PlacementOptions(mmap=True, repack=True))
    assert not found.fits
    line, *_ = found.advice
    assert line.startswith("without --mmap it fits: -c 4096 ")
    assert line.endswith(" --no-mmap")
    assert plan(mixtral(), machine(0, 24), PlacementOptions(repack=True)).fits


def test_beside_a_gpu_that_pins_ram_weights_are_not_repacked() -> None:
    pinning, other = (
        Machine(32 * GIB, (Device("GPU0", 8 * GIB, pins_ram=pins),)) for pins in (True, False)
    )
    assert plan(mixtral(), pinning).repackable == 0
    found = plan(mixtral(), other)
    assert found.repackable == found.used["CPU"]["experts"]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the plan says of models of many types, and what llama.cpp does with them."""
    folder = tmp_path_factory.mktemp("repacking")
    widths: Widths = {"n_embd": 512, "n_ff": 1024, "heads": 4, "kv_heads": 2}
    models = [
        sparse_model(folder / f"{kind}-{experts}-{tied}.gguf", **widths, layers=2, experts=experts,
                     tied=tied, kind=GGMLQuantizationType[kind])
        for kind in ("Q4_0", "Q8_0", "IQ4_NL", "Q2_K", "Q4_K", "Q6_K")
        for experts, tied in ((0, True), (4, False))
    ]  # fmt: skip
    models += [demo_gguf("Q8_0"), demo_gguf("Q4_K_M"), smollm2()]
    wishes = {"n_ctx": 512, "n_gpu_layers": 0}
    return engines([{"model": str(path), "wishes": wishes} for path in models])


def test_the_plan_counts_exactly_what_llama_cpp_repacks(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        repacked = sum(
            buffer["nbytes"]
            for buffer in report["buffers"]
            if buffer["holds"] == "model" and buffer["device"] != "CPU"
        )
        assert abs(report["plan"]["repackable"] - repacked) <= ROUNDING, report["plan"]["model"]


def test_llama_cpp_repacks_something_only_if_it_reported_such_a_type(
    reports: list[dict[str, Any]],
) -> None:
    found = {buffer["device"] for report in reports for buffer in report["buffers"]}
    assert (found == {"CPU"}) == (not repacks())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """290 MB in Q4_0, most of them experts of which few work on a token."""
    path = tmp_path_factory.mktemp("resident") / "model.gguf"
    shape: Shape = {"n_embd": 1024, "n_ff": 1024, "heads": 8, "kv_heads": 2, "experts": 32}
    return random_model(path, "Q4_0", 4, shape)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux counts resident pages")
@pytest.mark.parametrize(
    ("ram", "wishes", "way"),
    [
        (8 * GIB, {}, MAPPED_AND_REPACKED),
        (600 * MIB, {}, REPACKED),
        (8 * GIB, {"repack": False}, MAPPED),
        (8 * GIB, {"mmap": False, "repack": False}, NEITHER),
    ],
)
def test_what_is_resident_after_an_answer_is_within_5_percent_of_the_plan(
    model: Path, ram: int, wishes: dict[str, bool], way: Way
) -> None:
    if way.repack and way.mmap and ("Q4_0", 3) not in repacks():
        pytest.skip("llama.cpp repacks no Q4_0 on this CPU")
    job = {"model": str(model), "ram": ram, "wishes": {"n_ctx": 1024} | wishes, "prompt": 600}
    result = loaded_in_a_child(job)
    assert (result["plan"]["mmap"], result["plan"]["repack"]) == (way.mmap, way.repack)
    grown = result["own"] + result["files"]
    assert abs(result["total"] - grown) <= 0.05 * grown
