"""`franken-gguf plan`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize.gguf_header import read_header
from franken_gguf.quantize.split import joined
from franken_gguf.runner import ui_plan
from franken_gguf.runner.planning.placement import Device, Machine, Plan, Wishes
from franken_gguf.runner.planning.planner import plan as make_plan
from franken_gguf.runner.planning.shape import model_shape

from .parameters import FILE, size
from .placement import placement_options


@click.command()
@click.argument("model", type=FILE)
@placement_options
@click.option("--ram", type=size, metavar="SIZE", help="RAM to plan with, as in 16GiB.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    model: Path,
    wishes: dict[str, Any],
    vram: tuple[int, ...] | None,
    ram: int | None,
    rpc: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say what of MODEL, a GGUF file, goes where in the memory there is.

    For this machine, or with --vram and --ram for one that is not here. Nothing is loaded.
    """
    shape = model_shape(joined(read_header(model)))
    decided = make_plan(shape, _machine(vram, ram, rpc), Wishes(**wishes))
    if as_json:
        click.echo(json.dumps(_document(decided), indent=2))
    else:
        ui_plan.show_plan(Console(), shape, decided, rpc)


def _machine(vram: tuple[int, ...] | None, ram: int | None, rpc: tuple[str, ...]) -> Machine:
    if vram is not None and ram is not None and not rpc:
        return Machine(ram, _gpus(vram))
    # llama.cpp takes a while to load, and a machine that is not here does not need it.
    from franken_gguf.runner.engine.machine import this_machine, with_vram  # noqa: PLC0415

    here = this_machine(rpc)
    if vram is not None:
        here = with_vram(here, vram) if here.devices else replace(here, devices=_gpus(vram))
    return here if ram is None else replace(here, ram=ram)


def _gpus(vram: tuple[int, ...]) -> tuple[Device, ...]:
    names = ("GPU",) if len(vram) == 1 else [f"GPU{number}" for number in range(len(vram))]
    return tuple(map(Device, names, vram))


def _document(plan: Plan) -> dict[str, Any]:
    return asdict(plan) | {"fits": plan.fits, "short": plan.short}
