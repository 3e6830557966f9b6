"""Ways to split a model between devices and the CPU, best first, and their memory. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .expert_order import fastest_first, is_clearly_faster
from .layer_split import by_room, by_shares
from .memory_use import CPU, REPACKED, Cache, memory_of
from .model_shape import ModelShape, Weight
from .placement import Device, Machine, Override, PlacementOptions, Plan, is_first
from .repacking import Way, choose, is_repacked

# Memory to leave free on a device: llama.cpp's --fit-target, or an eighth if that is less. In RAM a
# quarter of that, since available RAM already excludes what other programs use.
DEVICE_HEADROOM, RAM_HEADROOM, HEADROOM_SHARE = 1 << 30, 1 << 28, 8


@dataclass(frozen=True)
class Arrangement:
    """One way to split a model between the CPU and all devices together."""

    n_gpu_layers: int
    cpu_moe_layers: tuple[int, ...] = ()
    """Layers whose experts stay in RAM, in their order in the model."""
    part_of: int = -1
    """One more layer, of whose experts some projections stay in RAM too."""
    partly: tuple[str, ...] = ()
    """Those projections."""

    def home(self, weight: Weight, layers: list[str]) -> str:
        """The device of `weight`, where layer n is on `layers[n]`."""
        if weight.layer < 0:
            return CPU
        if weight.projection and (
            weight.layer in self.cpu_moe_layers
            or (weight.layer == self.part_of and weight.projection in self.partly)
        ):
            return CPU
        return layers[min(weight.layer, len(layers) - 1)]

    def overrides(self) -> tuple[Override, ...]:
        """Overrides that keep the experts in RAM."""
        return tuple(Override(pattern, CPU) for pattern in (*self._whole(), *self._partial()))

    def flags(self) -> Iterator[str]:
        """The overrides as options of llama.cpp."""
        patterns = [*self._partial()]
        if not is_first(self.cpu_moe_layers):
            patterns = [*self._whole(), *patterns]
        elif self.cpu_moe_layers:
            yield from ("-ncmoe", str(len(self.cpu_moe_layers)))
        for pattern in patterns:
            yield from ("-ot", f"{pattern}={CPU}")

    def _whole(self) -> Iterator[str]:
        """A regular expression for all experts of some layers; that of --n-cpu-moe, too."""
        if self.cpu_moe_layers:
            layers = "|".join(map(str, self.cpu_moe_layers))
            yield rf"blk\.({layers})\.ffn_(up|down|gate|gate_up)_(ch|)exps"

    def _partial(self) -> Iterator[str]:
        if self.partly:
            names = self.partly[0] if len(self.partly) == 1 else f"({'|'.join(self.partly)})"
            yield rf"blk\.{self.part_of}\.ffn_{names}_(ch|)exps"


def arrangements(
    shape: ModelShape,
    options: PlacementOptions,
    devices: Sequence[Device],
    order: Sequence[int],
) -> Iterator[Arrangement]:
    """All arrangements that the options allow, from the most on devices to the least.

    `order`: all layers, those whose experts go to RAM first come first.
    """
    if not devices:
        yield Arrangement(0)
        return
    every, top = shape.n_layer + 1, _most_layers(shape, options)
    fewer = range(top, -1, -1) if options.n_gpu_layers is None else (top,)
    if not shape.n_expert:
        yield from map(Arrangement, fewer)
    elif options.n_cpu_moe is not None:
        first = tuple(range(min(options.n_cpu_moe, shape.n_layer)))
        yield from (Arrangement(n, first) for n in fewer)
    else:
        for n_cpu_moe in range(every - top, shape.n_layer) if top else ():
            whole, part_of = tuple(sorted(order[:n_cpu_moe])), order[n_cpu_moe]
            for partly in ((), ("down",), ("gate", "down")):
                yield Arrangement(top, whole, part_of, partly)
        yield from (Arrangement(n, tuple(range(shape.n_layer))) for n in fewer)


def _most_layers(shape: ModelShape, options: PlacementOptions) -> int:
    """The most layers on devices that the options allow, the output included."""
    every = shape.n_layer + 1
    return every if options.n_gpu_layers in (None, -1) else min(options.n_gpu_layers or 0, every)


def fitting(shape: ModelShape, machine: Machine, options: PlacementOptions, cache: Cache) -> Plan:
    """The plan with the most on devices that have room for it; RAM can still be short.

    If no plan has room, the one with the least on devices. The experts in RAM are those of the
    first layers, unless a CPU decodes those of others clearly faster.
    """
    case = _Case(shape, machine, options, cache, _moved(shape, options.overrides))
    in_order = tuple(range(shape.n_layer))
    fastest = fastest_first(shape, shape.n_layer + 1 - _most_layers(shape, options))
    plain = case.best(in_order)
    all_on_devices = not (plain.cpu_moe_layers or plain.partly)
    if fastest == in_order or all_on_devices or options.n_cpu_moe is not None:
        return plain
    by_time = case.best(fastest)
    is_better = by_time.fits and is_clearly_faster(shape, by_time, plain)
    return by_time if is_better else plain


def has_room(plan: Plan) -> bool:
    """Whether each device has room for its part; RAM is not checked."""
    return not plan.short.keys() - {CPU}


def headroom(free: int, most: int) -> int:
    """Bytes of `free` to leave free."""
    return min(most, free // HEADROOM_SHARE)


def _moved(shape: ModelShape, overrides: tuple[Override, ...]) -> dict[str, str]:
    """Weight name to the device that the user's overrides give it; the first match decides."""
    moved: dict[str, str] = {}
    for override in overrides:
        pattern = re.compile(override.pattern)
        for weight in shape.weights:
            if pattern.search(weight.name):
                moved.setdefault(weight.name, override.device)
    return moved


@dataclass(frozen=True)
class _Case:
    """The inputs that all plans of one search share."""

    shape: ModelShape
    machine: Machine
    options: PlacementOptions
    cache: Cache
    moved: dict[str, str]

    def best(self, order: Sequence[int]) -> Plan:
        """The plan with the most on devices; `order`: the layers whose experts go to RAM first.

        One device is used alone if it suffices: each further one costs a copy and a wait for every
        token.
        """
        devices = sorted(self.machine.devices, key=lambda device: device.is_remote)
        choices = list(arrangements(self.shape, self.options, devices, order))
        if len(devices) > 1 and self.options.tensor_split is None:
            for device in sorted(devices, key=lambda device: (device.is_remote, -device.free)):
                alone = self.plan(choices[0], [device], (choices[0].n_gpu_layers,))
                if has_room(alone):
                    return alone
        first = bisect_left(choices, True, key=lambda choice: has_room(self.dealt(choice, devices)))
        return self.dealt(choices[min(first, len(choices) - 1)], devices)

    def dealt(self, choice: Arrangement, devices: Sequence[Device]) -> Plan:
        """The plan of `choice` with its layers on `devices`, by the user's shares or by room."""
        n_layers = choice.n_gpu_layers

        def last_has_room(counts: tuple[int, ...]) -> bool:
            name = devices[len(counts) - 1].name
            return name not in self.plan(choice, devices, (*counts, n_layers - sum(counts))).short

        if self.options.tensor_split is None:
            counts = by_room(n_layers, len(devices), last_has_room)
        else:
            counts = by_shares(n_layers, self.options.tensor_split)
        return self.plan(choice, devices, counts)

    def plan(self, choice: Arrangement, devices: Sequence[Device], counts: tuple[int, ...]) -> Plan:
        """The plan of `choice` with `counts` layers on the first of `devices`."""
        shape, machine = self.shape, self.machine
        shares = {one.name: n for one, n in zip(devices, counts, strict=False) if n}
        in_use = dict.fromkeys([*shares, *(name for name in self.moved.values() if name != CPU)])
        there = {one.name: one for one in machine.devices if one.name in in_use}
        layers = [CPU] * (shape.n_layer + 1 - choice.n_gpu_layers)
        for name, count in shares.items():
            layers += [name] * count
        # llama.cpp's scheduler takes the first device that can.
        copying = (name for name in in_use if there[name].copies_weights)
        placed = [
            (weight, self.moved.get(weight.name) or choice.home(weight, layers))
            for weight in shape.weights
        ]
        used = memory_of(shape, self.cache, layers, placed, copies_weights=next(copying, None))
        shared = tuple(name for name, one in there.items() if one.shares_ram)
        spare = headroom(machine.ram, RAM_HEADROOM)
        repackable = self._repackable(placed, there.values())
        taken = sum(sum(used.get(name, {}).values()) for name in (CPU, *shared))
        way = choose(
            repackable,
            machine.ram - spare - taken,
            can_repack=machine.can_repack,
            mmap=self.options.mmap,
            repack=self.options.repack,
        )
        if copies := way.copied(repackable):
            used[CPU][REPACKED] = copies
        own = () if choice.n_gpu_layers == 0 else choice.overrides()
        split = tuple(shares.get(name, 0) for name in in_use)
        return Plan(
            model=shape.name,
            cache=self.cache,
            devices=tuple(in_use),
            tensor_split=split,
            n_layers=shape.n_layer + 1,
            n_gpu_layers=choice.n_gpu_layers,
            n_cpu_moe=len(choice.cpu_moe_layers) if choice.n_gpu_layers else 0,
            cpu_moe_layers=choice.cpu_moe_layers if choice.n_gpu_layers else (),
            partly=choice.partly if choice.n_gpu_layers else (),
            overrides=(*self.options.overrides, *own),
            used=used,
            shared=shared,
            available={CPU: machine.ram} | {name: one.free for name, one in there.items()},
            headroom={CPU: spare}
            | {name: headroom(one.free, DEVICE_HEADROOM) for name, one in there.items()},
            flags=(
                *_device_flags(machine, tuple(in_use), split),
                *self._flags(choice),
                *_loading_flags(way),
            ),
            mmap=way.mmap,
            repack=way.repack,
            repackable=sum(weight.nbytes for weight in repackable),
            experts_used=self.options.experts_used,
        )

    def _repackable(
        self, placed: Iterable[tuple[Weight, str]], devices: Iterable[Device]
    ) -> list[Weight]:
        """The weights that llama.cpp can repack if `devices` are used beside the CPU."""
        if not self.machine.can_repack or any(device.pins_ram for device in devices):
            return []
        repacks = self.machine.repacks
        return [weight for weight, home in placed if home == CPU and is_repacked(weight, repacks)]

    def _flags(self, choice: Arrangement) -> tuple[str, ...]:
        cache, options = self.cache, self.options
        flags = ["-c", str(cache.n_ctx), "-ngl", str(choice.n_gpu_layers)]
        for override in options.overrides:
            flags += ["-ot", f"{override.pattern}={override.device}"]
        if choice.n_gpu_layers:
            flags += choice.flags()
        if options.experts_used is not None:
            key = f"{self.shape.architecture}.expert_used_count"
            flags += ["--override-kv", f"{key}=int:{options.experts_used}"]
        if not cache.flash_attention:
            flags += ["-fa", "off"]
        if (cache.type_k, cache.type_v) != ("f16", "f16"):
            flags += ["-ctk", cache.type_k, "-ctv", cache.type_v]
        return (*flags, *cache.rope.flags())


def _loading_flags(way: Way) -> tuple[str, ...]:
    return (*(() if way.mmap else ("--no-mmap",)), *(() if way.repack else ("--no-repack",)))


def _device_flags(
    machine: Machine, names: tuple[str, ...], split: tuple[int, ...]
) -> tuple[str, ...]:
    """-dev and -ts, if they differ from llama.cpp's default: all devices, remote ones first."""
    default = sorted(machine.devices, key=lambda device: not device.is_remote)
    flags: tuple[str, ...] = ()
    if names and names != tuple(device.name for device in default):
        flags += ("-dev", ",".join(names))
    if len(names) > 1:
        flags += ("-ts", ",".join(map(str, split)))
    return flags
