"""The largest file for a machine: experts in RAM get types that a CPU decodes fast, if they fit."""

from __future__ import annotations

from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.target_size.measurements import Measurements
from franken_gguf.quantize.target_size.target import Fitter
from franken_gguf.quantize.target_size.type_menus import can_choose, possible_types
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.runner.cli.fit import shape_of
from franken_gguf.runner.planning.placement import Device, Machine, PlacementOptions
from franken_gguf.runner.sensitivity.largest_fit import Fit, largest_fits
from support.checkpoints import make_checkpoint

OPTIONS = PlacementOptions(n_ctx=64)
MIB = 1 << 20


class Fits:
    """Answers for a mixture whose types cost what their bits say."""

    def __init__(self, folder: Path) -> None:
        self.source = open_source(make_checkpoint(folder / "tales", dtype="F16"))
        measured, values = Measurements(), {}
        for tensor in filter(can_choose, self.source.tensors):
            sizes = {k.name: GGML_QUANT_SIZES[k] for k in possible_types(tensor, weighted=True)}
            measured.errors[tensor.name] = {n: (b / c) ** 2 for n, (b, c) in sizes.items()}
            measured.divergences[tensor.name] = 0.01
            count = prod(tensor.shape[:-2]) * tensor.shape[-1]
            values[tensor.name] = np.ones(count, np.float32)
        self.imatrix = Imatrix(Path("ones"), values, {}, chunks=1, dataset=b"ones")
        self.fitter = Fitter(self.source, self.imatrix, Overrides(), measured)

    def on(self, ram: int, *devices: Device) -> list[Fit]:
        shape = partial(shape_of, self.source, self.imatrix, None)
        return largest_fits(self.fitter, shape, Machine(ram, devices), OPTIONS)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Fits:
    return Fits(tmp_path_factory.mktemp("fits"))


def test_fast_types_take_more_bytes_at_least(fits: Fits) -> None:
    assert fits.fitter.has_experts
    assert fits.fitter.with_cpu_moe().least > fits.fitter.least
    assert fits.fitter.with_cpu_moe().most == fits.fitter.most


def test_with_room_experts_in_ram_have_fast_types_and_those_on_a_gpu_have_any(fits: Fits) -> None:
    assert [fit.cpu_moe for fit in fits.on(1 << 34)] == [True]
    whole, *_ = fits.on(1 << 34, Device("GPU", 1 << 34))
    assert not whole.cpu_moe


def test_where_no_file_of_fast_types_fits_the_others_are_taken(fits: Fits) -> None:
    low, high = 0, 1 << 12
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits.on(middle * MIB // 16) else (middle, high)
    (smallest,) = fits.on(high * MIB // 16)
    assert not smallest.cpu_moe
    assert smallest.target_size < fits.fitter.with_cpu_moe().least
