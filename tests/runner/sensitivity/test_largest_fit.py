"""The largest file for a machine: experts in RAM get types that a CPU decodes fast, if they fit."""

from __future__ import annotations

from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.blocks.cpu_decode import SLOW_ON_CPU
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.target_size.target import Fitter, Target
from franken_gguf.quantize.target_size.type_menus import can_choose
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.runner.cli.fit import shape_of
from franken_gguf.runner.planning.expert_order import experts_in_ram
from franken_gguf.runner.planning.model_shape import ModelShape
from franken_gguf.runner.planning.placement import Device, Machine, PlacementOptions, Plan
from franken_gguf.runner.planning.planner import plan
from franken_gguf.runner.sensitivity.largest_fit import Fit, largest_fits
from support.checkpoints import Sizes, make_checkpoint
from support.made_up_measurements import by_bits

OPTIONS = PlacementOptions(n_ctx=64)
MIB = 1 << 20
N_LAYER = 8


class Fits:
    """Answers for a source with made-up measurements."""

    def __init__(self, source: Source, spread: float) -> None:
        values = {
            tensor.name: np.ones(prod(tensor.shape[:-2]) * tensor.shape[-1], np.float32)
            for tensor in filter(can_choose, source.tensors)
        }
        measured = by_bits(source, weighted=True, spread=spread)
        self.imatrix = Imatrix(Path("ones"), values, {}, chunks=1, dataset=b"ones")
        self.fitter = Fitter(source, self.imatrix, Overrides(), measured)
        self.shape_of = partial(shape_of, source, self.imatrix, None)

    def on(self, machine: Machine) -> list[Fit]:
        return largest_fits(self.fitter, self.shape_of, machine, OPTIONS)

    def file(self, nbytes: int, n_cpu_moe: int) -> tuple[ModelShape, float]:
        """The shape of the file that convert makes, and the divergence that it predicts."""
        fitted = self.fitter.with_n_cpu_moe(n_cpu_moe).fit(Target("", "", nbytes))
        return self.shape_of(fitted), fitted.divergence

    def placed(self, machine: Machine, n_cpu_moe: int) -> tuple[Plan, float]:
        """The plan of the largest file that fits, and its divergence."""
        fitter = self.fitter.with_n_cpu_moe(n_cpu_moe)
        memory = machine.ram + sum(device.free for device in machine.devices)
        for size in range(min(fitter.most, memory) // MIB, fitter.least // MIB, -1):
            shape, divergence = self.file(size * MIB, n_cpu_moe)
            found = plan(shape, machine, OPTIONS)
            if found.fits:
                return found, divergence
        raise AssertionError("no file fits")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("fits") / "tales"
    sizes = Sizes(layers=N_LAYER, hidden=256, feed_forward=512, experts=8)
    return open_source(make_checkpoint(folder, dtype="F16", **sizes))


def machine(ram: float, vram: float) -> Machine:
    """Memory in MiB."""
    return Machine(int(ram * MIB), (Device("GPU", int(vram * MIB)),) if vram else ())


def test_fast_types_take_more_bytes_at_least(source: Source) -> None:
    fitter = Fits(source, 0).fitter
    assert fitter.expert_layers == N_LAYER
    files = [fitter.with_n_cpu_moe(n) for n in range(N_LAYER + 1)]
    sizes = [file.least for file in files]
    assert fitter.least == sizes[0]
    assert sizes == sorted(set(sizes)), "of every further layer"
    assert {file.most for file in files} == {fitter.most}
    assert fitter.with_n_cpu_moe(99).least == sizes[-1]


def test_with_room_experts_in_ram_have_fast_types_and_those_on_a_gpu_have_any(
    source: Source,
) -> None:
    fits = Fits(source, 0)
    assert [fit.n_cpu_moe for fit in fits.on(machine(1 << 14, 0))] == [N_LAYER]
    whole, *_ = fits.on(machine(1 << 14, 1 << 14))
    assert (whole.n_cpu_moe, whole.cpu_moe) == (0, False)


@pytest.mark.parametrize(
    ("spread", "ram", "vram"), [(0, 10, 18), (0, 9, 15), (0, 5, 12), (0.5, 10, 18), (1, 10, 17)]
)
def test_every_answer_is_the_file_that_convert_makes_placed_as_plan_does(
    source: Source, spread: float, ram: int, vram: int
) -> None:
    fits, here = Fits(source, spread), machine(ram, vram)
    whole, best = fits.on(here)
    file, divergence = fits.file(best.target_size, best.n_cpu_moe)
    assert (best.plan, best.divergence) == (plan(file, here, OPTIONS), divergence)
    in_ram = experts_in_ram(file, best.plan)
    assert {weight.kind for weight in in_ram}.isdisjoint(SLOW_ON_CPU)
    assert max(weight.layer for weight in in_ram) < best.n_cpu_moe
    _, with_fast_types_for_all = fits.placed(here, N_LAYER)
    assert divergence <= with_fast_types_for_all
    assert divergence < whole.divergence


def test_experts_on_the_gpu_have_grid_types_although_others_are_in_ram(source: Source) -> None:
    fits, here = Fits(source, 0), machine(10, 18)
    best = fits.on(here)[-1]
    file, divergence = fits.file(best.target_size, best.n_cpu_moe)
    in_ram = experts_in_ram(file, best.plan)
    on_gpu = [weight for weight in file.weights if weight.projection and weight not in in_ram]
    assert best.plan.cpu_moe_layers == (0, 1, 2) == tuple(range(best.n_cpu_moe))
    assert {weight.layer for weight in on_gpu} == {3, 4, 5, 6, 7}
    assert {weight.kind for weight in on_gpu} & SLOW_ON_CPU
    assert divergence < fits.placed(here, N_LAYER)[1]


def test_more_layers_get_fast_types_if_the_file_with_fewer_has_more_in_ram(source: Source) -> None:
    fits, here = Fits(source, 0), machine(9, 15)
    best = fits.on(here)[-1]
    assert best.n_cpu_moe == 4
    files = [fits.placed(here, n)[0] for n in (N_LAYER, 3, 4)]
    assert [(len(one.cpu_moe_layers), len(one.partly)) for one in files] == [(3, 0), (3, 1), (3, 1)]


def test_all_experts_get_fast_types_where_that_file_is_better(source: Source) -> None:
    fits, here = Fits(source, 1), machine(10, 17)
    best = fits.on(here)[-1]
    assert (best.n_cpu_moe, best.plan.n_cpu_moe) == (N_LAYER, 3)
    assert best.divergence == fits.placed(here, N_LAYER)[1] < fits.placed(here, 4)[1]


def test_where_no_file_of_fast_types_fits_the_others_are_taken(source: Source) -> None:
    fits = Fits(source, 0)
    low, high = 0, 1 << 10
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits.on(machine(middle / 16, 0)) else (middle, high)
    (smallest,) = fits.on(machine(high / 16, 0))
    assert (smallest.n_cpu_moe, smallest.cpu_moe) == (0, False)
    assert smallest.target_size < fits.fitter.with_n_cpu_moe(N_LAYER).least
