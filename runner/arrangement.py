"""The ways to share a model between a device and the CPU, best first, and what each takes. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from .memory import CPU, Cache, memory_of
from .placement import Device, Machine, Override, Plan, Wishes
from .shape import ModelShape, Weight

# What is left free on a device: llama.cpp's --fit-target, or an eighth where that is less. In RAM a
# quarter of it: what is available there is counted after all that runs already.
DEVICE_HEADROOM, RAM_HEADROOM, HEADROOM_SHARE = 1 << 30, 1 << 28, 8


@dataclass(frozen=True)
class Arrangement:
    """One way to share a model between a device and the CPU."""

    n_gpu_layers: int
    n_cpu_moe: int = 0
    partly: tuple[str, ...] = ()
    """Projections of the experts of layer `n_cpu_moe` that stay in RAM too."""

    def home(self, weight: Weight, layers: list[str]) -> str:
        """The device of `weight`, where layer n is on `layers[n]`."""
        if weight.layer < 0:
            return CPU
        if weight.projection and (
            weight.layer < self.n_cpu_moe
            or (weight.layer == self.n_cpu_moe and weight.projection in self.partly)
        ):
            return CPU
        return layers[min(weight.layer, len(layers) - 1)]

    def overrides(self) -> tuple[Override, ...]:
        """What llama.cpp is told of the experts; --n-cpu-moe stands for the first."""
        found = []
        if self.n_cpu_moe:
            layers = "|".join(map(str, range(self.n_cpu_moe)))
            found.append(rf"blk\.({layers})\.ffn_(up|down|gate|gate_up)_(ch|)exps")
        if self.partly:
            found.append(self.partial_pattern())
        return tuple(Override(pattern, CPU) for pattern in found)

    def partial_pattern(self) -> str:
        """The projections of one layer that stay in RAM."""
        names = self.partly[0] if len(self.partly) == 1 else f"({'|'.join(self.partly)})"
        return rf"blk\.{self.n_cpu_moe}\.ffn_{names}_(ch|)exps"


def arrangements(shape: ModelShape, wishes: Wishes, device: Device | None) -> Iterator[Arrangement]:
    """All that the wishes leave open, from the most on the device to the least."""
    if device is None:
        yield Arrangement(0)
        return
    every = shape.n_layer + 1
    top = every if wishes.n_gpu_layers in (None, -1) else min(wishes.n_gpu_layers or 0, every)
    fewer = range(top, -1, -1) if wishes.n_gpu_layers is None else (top,)
    if not shape.n_expert:
        yield from map(Arrangement, fewer)
    elif wishes.n_cpu_moe is not None:
        n_cpu_moe = min(wishes.n_cpu_moe, shape.n_layer)
        yield from (Arrangement(n, n_cpu_moe) for n in fewer)
    else:
        for n_cpu_moe in range(every - top, shape.n_layer) if top else ():
            for partly in ((), ("down",), ("gate", "down")):
                yield Arrangement(top, n_cpu_moe, partly)
        yield from (Arrangement(n, shape.n_layer) for n in fewer)


def fitting(shape: ModelShape, machine: Machine, wishes: Wishes, cache: Cache) -> Plan:
    """The plan that takes the most of a device that it has room for; RAM it may lack.

    Where none has room, the one that takes the least.
    """
    device = max(machine.devices, key=lambda device: device.free, default=None)
    choices = list(arrangements(shape, wishes, device))
    moved = _moved(shape, wishes.overrides)

    def made(choice: Arrangement) -> Plan:
        return _made(shape, machine, wishes, cache, choice, device, moved)

    first = bisect_left(choices, True, key=lambda choice: not made(choice).short.keys() - {CPU})
    return made(choices[min(first, len(choices) - 1)])


def headroom(free: int, most: int) -> int:
    """Bytes of `free` that are to stay so."""
    return min(most, free // HEADROOM_SHARE)


def _moved(shape: ModelShape, overrides: tuple[Override, ...]) -> dict[str, str]:
    """Weight name to the device that the user sends it to; the first pattern found decides."""
    found: dict[str, str] = {}
    for override in overrides:
        pattern = re.compile(override.pattern)
        for weight in shape.weights:
            if pattern.search(weight.name):
                found.setdefault(weight.name, override.device)
    return found


def _made(
    shape: ModelShape,
    machine: Machine,
    wishes: Wishes,
    cache: Cache,
    choice: Arrangement,
    device: Device | None,
    moved: dict[str, str],
) -> Plan:
    in_use = {*moved.values()} - {CPU}
    if device and choice.n_gpu_layers:
        in_use.add(device.name)
    home = device.name if device else CPU
    n_on_cpu = shape.n_layer + 1 - choice.n_gpu_layers
    layers = [CPU] * n_on_cpu + [home] * choice.n_gpu_layers
    used = memory_of(
        shape,
        cache,
        layers,
        [
            (weight, moved.get(weight.name) or choice.home(weight, layers))
            for weight in shape.weights
        ],
        copies_weights=home if device and device.copies_weights and home in in_use else None,
    )
    there = [one for one in machine.devices if one.name in in_use]
    own = () if choice.n_gpu_layers == 0 else choice.overrides()
    return Plan(
        model=shape.name,
        cache=cache,
        devices=tuple(sorted(in_use, key=lambda name: name != home)),
        n_layers=shape.n_layer + 1,
        n_gpu_layers=choice.n_gpu_layers,
        n_cpu_moe=choice.n_cpu_moe if choice.n_gpu_layers else 0,
        partly=choice.partly if choice.n_gpu_layers else (),
        overrides=(*wishes.overrides, *own),
        used=used,
        shared=tuple(one.name for one in there if one.shares_ram),
        available={CPU: machine.ram} | {one.name: one.free for one in there},
        headroom={CPU: headroom(machine.ram, RAM_HEADROOM)}
        | {one.name: headroom(one.free, DEVICE_HEADROOM) for one in there},
        flags=_flags(cache, choice, wishes),
    )


def _flags(cache: Cache, choice: Arrangement, wishes: Wishes) -> tuple[str, ...]:
    flags = ["-c", str(cache.n_ctx), "-ngl", str(choice.n_gpu_layers)]
    for override in wishes.overrides:
        flags += ["-ot", f"{override.pattern}={override.device}"]
    if choice.n_gpu_layers and choice.n_cpu_moe:
        flags += ["-ncmoe", str(choice.n_cpu_moe)]
    if choice.n_gpu_layers and choice.partly:
        flags += ["-ot", f"{choice.partial_pattern()}={CPU}"]
    if not cache.flash_attention:
        flags += ["-fa", "off"]
    if (cache.type_k, cache.type_v) != ("f16", "f16"):
        flags += ["-ctk", cache.type_k, "-ctv", cache.type_v]
    return tuple(flags)
