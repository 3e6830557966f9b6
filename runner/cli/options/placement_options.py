"""The options that place a model on devices, for every verb that loads or plans one."""

from __future__ import annotations

import re

import click

from franken_gguf.runner.planning.memory_use import CPU, KV_TYPES
from franken_gguf.runner.planning.placement import Override, PlacementOptions
from franken_gguf.runner.planning.planner import DEFAULT_N_CTX

from .completion import kv_types, offering
from .option_groups import Decorator, bundled, option
from .rope_options import rope_options
from .types import THREADS, memory_size

MODEL_GROUP = "Model and memory"


def layers(text: str) -> int | None:
    """A number of layers; None for auto."""
    if text == "auto":
        return None
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise click.BadParameter(f"{text!r} is not a number of layers (-1 for all) or auto")
    return int(text)


def switch(text: str) -> bool | None:
    """Whether something is on; None for auto."""
    if text not in ("on", "off", "auto"):
        raise click.BadParameter(f"{text!r} is not on, off or auto")
    return None if text == "auto" else text == "on"


def override(text: str) -> Override:
    """REGEX=DEVICE as in llama.cpp's -ot, split at the last =."""
    pattern, equals, device = text.rpartition("=")
    if not (pattern and equals and device):
        raise click.BadParameter(f"{text!r} is not REGEX=DEVICE, as in 'ffn_.*_exps={CPU}'")
    return Override(pattern, device)


def shares(text: str) -> tuple[float, ...]:
    """Proportions as in llama.cpp's -ts, such as 3,1."""
    try:
        return tuple(float(share) for share in re.split("[,/]", text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of proportions, as in 3,1") from None


def sizes(text: str) -> tuple[int, ...]:
    """Sizes separated by commas, in bytes."""
    return tuple(memory_size(one) for one in text.split(","))


vram_option = option(
    "--vram",
    group=MODEL_GROUP,
    type=sizes,
    metavar="SIZE[,SIZE]",
    show_default="what is free",
    help="GPU memory to plan with, as in 6GiB: one size, or one for each GPU; 0 is none.",
)
ram_option = option(
    "--ram",
    group=MODEL_GROUP,
    type=memory_size,
    metavar="SIZE",
    show_default="what is free",
    help="RAM to plan with, as in 16GiB.",
)


def threads_option(group: str = MODEL_GROUP) -> Decorator:
    """llama.cpp's threads as `n_threads`; None is one per physical core."""
    return option(
        "-t",
        "--threads",
        "n_threads",
        group=group,
        type=THREADS,
        metavar="N",
        show_default="one per physical core",
        help="CPU threads.",
    )


_experts_used = option(
    "--experts-used",
    group=MODEL_GROUP,
    type=click.IntRange(min=1),
    metavar="N",
    show_default="the model file's",
    help="Experts used for each token. Fewer are faster, but the router was not made for that.",
)


def placement_options(
    context: str = f"{DEFAULT_N_CTX}, or less if it does not fit", *, experts_used: bool = True
) -> Decorator:
    """Give a command these options; it gets their values as `placement`, `vram` and `rpc`.

    `context` is the default context length in words. `experts_used`: whether --experts-used is one
    of them.
    """
    more = (_experts_used,) if experts_used else ()
    return bundled("placement", PlacementOptions, (*_options(context), *rope_options(), *more))


def _options(context: str) -> tuple[Decorator, ...]:
    return (
        option(
            "-c",
            "--ctx-size",
            "n_ctx",
            group=MODEL_GROUP,
            type=click.IntRange(min=0),
            metavar="N",
            show_default=context,
            help="Context length in tokens; 0 is the trained length, a longer one scales RoPE.",
        ),
        option(
            "-ngl",
            "--gpu-layers",
            "n_gpu_layers",
            group=MODEL_GROUP,
            type=layers,
            metavar="N|auto",
            default="auto",
            shell_complete=offering(lambda: ("auto",)),
            help="Number of layers on the GPU, -1 for all; auto is as many as fit.",
        ),
        option(
            "-ncmoe",
            "--n-cpu-moe",
            "n_cpu_moe",
            group=MODEL_GROUP,
            type=layers,
            metavar="N|auto",
            default="auto",
            shell_complete=offering(lambda: ("auto",)),
            help="Keep the experts of the first N layers in RAM; auto is as few as necessary.",
        ),
        option(
            "-ts",
            "--tensor-split",
            "tensor_split",
            group=MODEL_GROUP,
            type=shares,
            metavar="A,B",
            show_default="by their free memory",
            help="Split the layers over several GPUs in these proportions, as in 3,1.",
        ),
        option(
            "-ot",
            "--override-tensor",
            "overrides",
            group=MODEL_GROUP,
            type=override,
            metavar="REGEX=DEVICE",
            multiple=True,
            help=(
                "Put tensors whose name matches on this device, as in 'ffn_.*_exps=CPU'. "
                "Repeatable; the first match wins."
            ),
        ),
        option(
            "-ctk",
            "--cache-type-k",
            "type_k",
            group=MODEL_GROUP,
            metavar="TYPE",
            show_default="f16, or q8_0 where that does not fit",
            shell_complete=kv_types,
            help=f"Type of the KV cache's keys: {', '.join(KV_TYPES)}.",
        ),
        option(
            "-ctv",
            "--cache-type-v",
            "type_v",
            group=MODEL_GROUP,
            metavar="TYPE",
            show_default="f16, or q8_0 where that does not fit",
            shell_complete=kv_types,
            help="Type of the KV cache's values, one of the same.",
        ),
        option(
            "-fa",
            "--flash-attn",
            "flash_attention",
            group=MODEL_GROUP,
            type=switch,
            metavar="on|off|auto",
            default="auto",
            shell_complete=offering(lambda: ("on", "off", "auto")),
            help="Flash attention; auto is on, except on the CPU where it is slower.",
        ),
        option(
            "--mmap/--no-mmap",
            group=MODEL_GROUP,
            default=None,
            show_default="the faster one that fits into RAM",
            help="Map the model file into memory, or read it into RAM.",
        ),
        option(
            "--repack/--no-repack",
            " /-nr",
            "repack",
            group=MODEL_GROUP,
            default=None,
            show_default="repack if there is memory for it",
            help="Repack weights in RAM for this CPU: faster, but a mapped file needs a copy.",
        ),
        vram_option,
        option(
            "--rpc",
            group=MODEL_GROUP,
            multiple=True,
            metavar="HOST:PORT",
            help="Also use the memory of a machine that runs `franken-gguf worker`. Repeatable.",
        ),
    )
