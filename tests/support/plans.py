"""Models and machines for the tests of planning."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.planning.model_shape import ModelShape, model_shape
from franken_gguf.runner.planning.placement import Device, Machine, Plan
from support.shapes import MIXTRAL_4X7B, sparse_model

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


def cards(*vram: float, remote: float = 0) -> Machine:
    devices = [Device(f"CUDA{n}", int(size * GIB)) for n, size in enumerate(vram)]
    if remote:
        devices.append(Device("RPC0", int(remote * GIB), copies_weights=False, is_remote=True))
    return Machine(16 * GIB, tuple(devices))
