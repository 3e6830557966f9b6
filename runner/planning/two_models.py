"""Plans two models loaded side by side: equal contexts, the first placed first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from franken_gguf.runner.terminal.text import size

from .memory_use import CPU
from .model_shape import ModelShape
from .placement import Machine, PlacementOptions, Plan, PlanError
from .planner import plan


def side_by_side(
    first: ModelShape, second: ModelShape, machine: Machine, options: PlacementOptions
) -> tuple[PlacementOptions, Machine]:
    """The options for both models, and the machine as the first one leaves it for the second.

    If the context has to be smaller for one of them, the options have it, so that both read as
    much of a story. Raises PlanError if there is not enough RAM for both.
    """
    plans = _plans(first, second, machine, options)
    if len(set(map(_context, plans))) > 1:
        options = _smaller(options, *plans)
        plans = _plans(first, second, machine, options)
    _check_ram(first, second, *plans)
    return options, _left_by(plans[0], machine)


def _plans(
    first: ModelShape, second: ModelShape, machine: Machine, options: PlacementOptions
) -> tuple[Plan, Plan]:
    best = plan(first, machine, options)
    return best, plan(second, _left_by(best, machine), options)


def _context(one: Plan) -> tuple[int, str, str]:
    return one.cache.n_ctx, one.cache.type_k, one.cache.type_v


def _smaller(options: PlacementOptions, *plans: Plan) -> PlacementOptions:
    """The options for the smallest of the contexts, in 8 bits if one of them is."""
    smallest = min(plans, key=lambda one: one.cache.n_ctx)
    types = next((one for one in plans if one.cache.type_k != "f16"), smallest)
    n_ctx, type_k, type_v = smallest.cache.n_ctx, types.cache.type_k, types.cache.type_v
    return replace(options, n_ctx=n_ctx, type_k=type_k, type_v=type_v)


def _left_by(taken: Plan, machine: Machine) -> Machine:
    """`machine` without the memory that a plan takes; its headroom is left for the next."""
    ram = max(0, machine.ram - taken.total_ram)
    devices = tuple(
        replace(device, free=max(0, min(device.free - taken.total(device.name), limit)))
        for device in machine.devices
        for limit in [ram if device.shares_ram else device.free]
    )
    return replace(machine, ram=ram, devices=devices)


def _check_ram(first: ModelShape, second: ModelShape, *plans: Plan) -> None:
    if not any(CPU in one.short for one in plans):
        return
    n_ctx, spare, free = plans[0].cache.n_ctx, plans[0].headroom[CPU], plans[0].available[CPU]
    needs = " and ".join(_needs(zip((first, second), plans, strict=True)))
    raise PlanError(
        f"the two models do not fit side by side: with a context of {n_ctx} tokens {needs}; "
        f"{size(free)} of RAM is free, of which {size(spare)} is headroom; choose smaller quants "
        "or a smaller -c"
    )


def _needs(plans: Iterator[tuple[ModelShape, Plan]]) -> Iterator[str]:
    for shape, one in plans:
        yield f"{shape.name} needs {size(one.total_ram)}"
