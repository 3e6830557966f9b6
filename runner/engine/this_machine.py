"""This machine as the planner sees it: free memory, and the devices that llama.cpp can use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.runner.common.hardware import available_memory
from franken_gguf.runner.planning.placement import Device, Machine, PlanError

from .backend import EngineError, start
from .cpu_check import check, rebuild
from .ggml import GgmlDevice, devices
from .repacked_types import repacks
from .rpc import add_worker


@signals_held()
def this_machine(
    workers: Iterable[str] = (), on_notice: Callable[[str], None] = lambda _: None
) -> Machine:
    """Free RAM and the GPUs of this machine and of the RPC `workers` (HOST:PORT), local ones first.

    Like llama.cpp, integrated GPUs are used only if there are no others. The first call on a
    machine runs the check of cpu_check.py and reports to `on_notice` what does not work. Raises
    EngineError.
    """
    can_repack = _can_repack(on_notice)
    start()
    for endpoint in workers:
        add_worker(endpoint)
    registered = devices()
    gpus = [device for device in registered if device.kind == "GPU"]
    gpus = gpus or [device for device in registered if device.kind == "IGPU"]
    ram = available_memory()
    plannable = [_plannable(device, ram) for device in gpus[: lib.llama_max_devices()]]
    local_first = sorted(plannable, key=lambda device: device.is_remote)
    return Machine(ram, tuple(local_first), can_repack, repacks())


def with_vram(machine: Machine, vram: tuple[int, ...]) -> Machine:
    """`machine` with `vram` bytes free on its devices, one number for all. Raises PlanError."""
    if not (machine.devices or any(vram)):
        return machine
    if not machine.devices:
        raise PlanError("--vram: llama.cpp finds no GPU here; 'franken-gguf doctor' shows why")
    if len(vram) not in (1, len(machine.devices)):
        names = ", ".join(device.name for device in machine.devices)
        raise PlanError(f"--vram: got {len(vram)} sizes; give one, or one for each of {names}")
    sizes = vram * len(machine.devices) if len(vram) == 1 else vram
    pairs = zip(machine.devices, sizes, strict=True)
    return replace(machine, devices=tuple(replace(device, free=size) for device, size in pairs))


def _can_repack(on_notice: Callable[[str], None]) -> bool:
    verdict = check(on_notice)
    if not verdict.can_run:
        raise EngineError(
            f"llama.cpp crashes on this CPU ({verdict.fault}), perhaps because it was built for "
            f"another one; rebuild it here: {rebuild()}"
        )
    return verdict.can_repack


def _plannable(device: GgmlDevice, ram: int) -> Device:
    is_remote = device.backend.startswith("RPC")
    shares_ram = device.kind == "IGPU" or (sys.platform == "darwin" and not is_remote)
    free = min(device.free, ram) if shares_ram else device.free
    # The scheduler copies weights only to backends that implement offload_op; RPC does not.
    return Device(
        device.name,
        free,
        copies_weights=not is_remote,
        shares_ram=shares_ram,
        is_remote=is_remote,
        pins_ram=device.pins_ram,
    )
