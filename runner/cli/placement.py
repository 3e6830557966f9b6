"""The options that decide what goes where, the same for every verb that loads or plans."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import click

from franken_gguf.runner.planning.memory import CPU
from franken_gguf.runner.planning.placement import Override, Wishes

from .parameters import size


def layers(text: str) -> int | None:
    """A number of layers, None for auto."""
    if text == "auto":
        return None
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise click.BadParameter(f"{text!r}: give a number of layers, -1 for all, or auto")
    return int(text)


def switch(text: str) -> bool | None:
    """on or off, None for auto."""
    if text not in ("on", "off", "auto"):
        raise click.BadParameter(f"{text!r} is not on, off or auto")
    return None if text == "auto" else text == "on"


def override(text: str) -> Override:
    """REGEX=DEVICE as in llama.cpp's -ot; what stands after the last = is the device."""
    pattern, equals, device = text.rpartition("=")
    if not (pattern and equals and device):
        raise click.BadParameter(f"{text!r}: give REGEX=DEVICE, as in 'ffn_.*_exps={CPU}'")
    return Override(pattern, device)


def shares(text: str) -> tuple[float, ...]:
    """Numbers as in llama.cpp's -ts."""
    try:
        return tuple(float(share) for share in re.split("[,/]", text))
    except ValueError:
        raise click.BadParameter(f"{text!r}: give a share for each device, as in 3,1") from None


def sizes(text: str) -> tuple[int, ...]:
    """Sizes with commas between."""
    return tuple(size(one) for one in text.split(","))


def placement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` these options.

    It gets those that are wishes together, as the dict `wishes`, and `vram` and `rpc`.
    """

    @wraps(command)
    def with_wishes(**values: Any) -> Any:
        names = [field.name for field in fields(Wishes) if field.name in values]
        wishes = {name: values.pop(name) for name in names}
        return command(wishes=wishes, **values)

    decorated: Callable[..., Any] = with_wishes
    for option in reversed(_PLACEMENT):
        decorated = option(decorated)
    return decorated


_PLACEMENT = (
    click.option(
        "-c",
        "--ctx-size",
        "n_ctx",
        type=click.IntRange(min=0),
        metavar="N",
        help="Tokens of context; 0 is all that the model has.  [default: at most 4096]",
    ),
    click.option(
        "-ngl",
        "--gpu-layers",
        "n_gpu_layers",
        type=layers,
        metavar="N|auto",
        default="auto",
        help="Layers on the GPU; auto is as many as fit, -1 all.",
    ),
    click.option(
        "-ts",
        "--tensor-split",
        "tensor_split",
        type=shares,
        metavar="A,B",
        help="Shares of those layers for each device.  [default: as its memory allows]",
    ),
    click.option(
        "-ncmoe",
        "--n-cpu-moe",
        "n_cpu_moe",
        type=layers,
        metavar="N|auto",
        default="auto",
        help="Layers whose experts stay in RAM; auto is as few as fit.",
    ),
    click.option(
        "-ot",
        "--override-tensor",
        "overrides",
        type=override,
        metavar="REGEX=DEVICE",
        multiple=True,
        help="Tensors of such names on that device; the first that fits a name decides.",
    ),
    click.option(
        "-ctk", "--cache-type-k", "type_k", metavar="TYPE", help="KV cache: type of keys."
    ),
    click.option(
        "-ctv", "--cache-type-v", "type_v", metavar="TYPE", help="KV cache: type of values."
    ),
    click.option(
        "-fa",
        "--flash-attn",
        "flash_attention",
        type=switch,
        metavar="on|off|auto",
        default="auto",
        help="Flash attention; auto is what is faster: off on a CPU, on elsewhere.",
    ),
    click.option(
        "--mmap/--no-mmap",
        default=None,
        help="Map the file, or read it into memory.  [default: what is faster and fits]",
    ),
    click.option(
        "--repack/--no-repack",
        " /-nr",
        "repack",
        default=None,
        help="Repack weights for the CPU, or not.  [default: repack if there is memory for it]",
    ),
    click.option(
        "--vram",
        type=sizes,
        metavar="SIZE[,SIZE]",
        help="Memory of the GPU to plan with, as in 6GiB, or of each.",
    ),
    click.option(
        "--rpc",
        multiple=True,
        metavar="HOST:PORT",
        help="Use the device of a `franken-gguf worker`, too.",
    ),
)
