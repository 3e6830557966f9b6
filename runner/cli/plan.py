"""`franken-gguf plan`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.split_files import joined
from franken_gguf.runner.cli.options.option_groups import Command
from franken_gguf.runner.cli.options.output_options import json_option
from franken_gguf.runner.cli.options.placement_options import (
    MODEL_GROUP,
    placement_options,
    ram_option,
)
from franken_gguf.runner.cli.options.types import MODEL
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.placement import Device, Machine, PlacementOptions, Plan
from franken_gguf.runner.planning.planner import plan as make_plan
from franken_gguf.runner.ui import plan_screen

from .hub_names import hub_names


@click.command(cls=Command)
@click.argument("model", type=MODEL)
@placement_options()
@ram_option
@json_option("Output", "plan")
@hub_names(models=["model"], group=MODEL_GROUP)
def plan(
    model: Path,
    placement: PlacementOptions,
    vram: tuple[int, ...] | None,
    ram: int | None,
    rpc: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show how a model fits in VRAM and RAM.

    MODEL is a GGUF file; only its header is read. The plan is for this machine, or for another one
    with --vram and --ram, and ends with the same plan as options for llama.cpp.
    """
    shape = model_shape(joined(read_header(model)))
    decided = make_plan(shape, machine_of(vram, ram, rpc), placement)
    if as_json:
        click.echo(json.dumps(_document(decided), indent=2))
    else:
        plan_screen.show_plan(Console(), shape, decided, rpc)


def machine_of(vram: tuple[int, ...] | None, ram: int | None, rpc: tuple[str, ...]) -> Machine:
    """This machine, or the one that the options describe."""
    if vram is not None and ram is not None and not rpc:
        return Machine(ram, _gpus(vram))
    from franken_gguf.runner.engine.this_machine import (  # noqa: PLC0415 - loads llama.cpp
        this_machine,
        with_vram,
    )

    here = this_machine(rpc, partial(click.echo, err=True))
    if vram is not None:
        here = with_vram(here, vram) if here.devices else replace(here, devices=_gpus(vram))
    return here if ram is None else replace(here, ram=ram)


def _gpus(vram: tuple[int, ...]) -> tuple[Device, ...]:
    names = ("GPU",) if len(vram) == 1 else [f"GPU{number}" for number in range(len(vram))]
    return tuple(map(Device, names, vram))


def _document(plan: Plan) -> dict[str, Any]:
    return asdict(plan) | {"fits": plan.fits, "short": plan.short}
