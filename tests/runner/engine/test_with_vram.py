"""The machine with the memory that --vram gives its GPUs."""

from __future__ import annotations

import pytest

from franken_gguf.runner.engine.this_machine import with_vram
from franken_gguf.runner.planning.placement import Machine, PlanError
from support.plans import GIB, cards


def test_one_size_is_for_every_gpu_and_several_are_for_one_each() -> None:
    assert [d.free for d in with_vram(cards(8, 8), (GIB,)).devices] == [GIB, GIB]
    assert [d.free for d in with_vram(cards(8, 8), (GIB, 2 * GIB)).devices] == [GIB, 2 * GIB]


def test_without_a_gpu_only_0_is_accepted() -> None:
    machine = Machine(16 * GIB)
    assert with_vram(machine, (0,)) == machine
    with pytest.raises(PlanError, match=r"llama\.cpp finds no GPU here"):
        with_vram(machine, (GIB,))


def test_more_sizes_than_gpus_are_refused() -> None:
    with pytest.raises(PlanError, match="got 3 sizes; give one, or one for each of CUDA0, CUDA1"):
        with_vram(cards(8, 8), (GIB,) * 3)
