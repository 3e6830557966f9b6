"""The options --target-size and --target-bpw, and the outputs they stand for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.target_size.target import (
    Fitter,
    Target,
    refuse_too_small,
    target_of_bits,
)
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.second_moments import SecondMoments
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import Preset, find_preset
from franken_gguf.runner.cli.options.option_groups import Decorator, option, with_options
from franken_gguf.runner.cli.options.quant_options import target_text_option
from franken_gguf.runner.cli.options.types import size
from franken_gguf.runner.common.hardware import cores
from franken_gguf.runner.sensitivity.measured_source import measurements
from franken_gguf.runner.sensitivity.probe_texts import BUILT_IN, passages_of
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.task_status import working

_SOURCE_QUANTIZED = (
    "is quantized already: KL divergences are relative to it, and its own losses remain; an "
    "unquantized source of the same model gives a better file of the same size"
)


def target_options(group: str) -> Decorator:
    """The options, listed in the help under the heading `group`.

    Those about experts reach the command as `n_cpu_moe`, None if neither is given.
    """
    options: list[Decorator] = [
        option(
            "--target-size",
            "target_sizes",
            group=group,
            metavar="SIZE|TYPE",
            multiple=True,
            help=(
                "Write the best file of at most this size (6GiB), or of the size of a quant "
                "(Q4_K_M): a type for each tensor, chosen by measurement. Repeatable."
            ),
        ),
        option(
            "--target-bpw",
            "target_bits",
            group=group,
            metavar="X",
            type=click.FloatRange(0, 16, min_open=True),
            multiple=True,
            help="The same, for this many bits per weight on average. Repeatable.",
        ),
        option(
            "--cpu-moe",
            group=group,
            is_flag=True,
            help=(
                "With a target: give experts only types that a CPU decodes fast, for experts that "
                "will stay in RAM."
            ),
        ),
        option(
            "-ncmoe",
            "--n-cpu-moe",
            "n_cpu_moe",
            group=group,
            type=click.IntRange(min=0),
            metavar="N",
            help="The same for the experts of the first N layers alone.",
        ),
        target_text_option(group),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_n_cpu_moe(*, cpu_moe: bool, n_cpu_moe: int | None, **others: Any) -> Any:
            if cpu_moe and n_cpu_moe is not None:
                raise click.UsageError("--cpu-moe is --n-cpu-moe for all layers; give one of them")
            return command(n_cpu_moe=sys.maxsize if cpu_moe else n_cpu_moe, **others)

        return with_options(options, with_n_cpu_moe)

    return decorate


def measured_fitter(
    source: Source,
    path: Path,
    imatrix: Imatrix | None,
    overrides: Overrides,
    text: Path | None,
    allow_requantize: bool,
    notices: Console,
    threads: int | None,
    *,
    targets: Sequence[Target] = (),
    n_cpu_moe: int = 0,
    second_moments: SecondMoments | None = None,
) -> Fitter:
    """What chooses types for `source`, which is measured now unless it has been before.

    Raises a FrankenError, before it measures if one of the `targets` cannot be reached.
    """
    if overrides.pure:
        raise RecipeError("--pure leaves no types to choose; drop it, or --target-size")
    if any(tensor.stored.name not in ("F32", "F16", "BF16") for tensor in source.tensors):
        if not allow_requantize:
            raise RecipeError(f"{path}: {_SOURCE_QUANTIZED}; --allow-requantize uses this one")
        say(notices, f"{path}: {_SOURCE_QUANTIZED}")
    if imatrix is None:
        say(notices, "without --imatrix, types are chosen and weights rounded less well")
    shapes = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    importances = imatrix.for_tensors(shapes) if imatrix else {}
    refuse_too_small(targets, source, imatrix, overrides, importances.keys(), second_moments)
    texts = passages_of(text) if text else BUILT_IN
    with working(notices, "measuring what each tensor's bits are worth") as update:
        try:
            measured = measurements(
                source,
                path,
                importances,
                texts,
                threads=threads or cores(),
                second_moments=second_moments,
                report=update,
            )
        except KeyboardInterrupt as interrupt:
            interrupt.args = ("Interrupted; run the same command to resume.",)
            raise
    return Fitter(
        source, imatrix, overrides, measured, n_cpu_moe=n_cpu_moe, second_moments=second_moments
    )


def stand_in(target: Target) -> Preset:
    """A preset of the target's name, for what is decided before its types are."""
    return replace(find_preset("Q8_0"), name=target.name)


def targets_of(
    source: Source,
    imatrix: Imatrix | None,
    sizes: tuple[str, ...],
    bits: tuple[float, ...],
    *,
    needed: bool,
) -> list[Target]:
    """The sizes asked for, each once. Raises click.UsageError if none is, but `needed`."""
    if needed and not sizes and not bits:
        raise click.UsageError(
            "--cpu-moe, --n-cpu-moe and --target-text need --target-size or --target-bpw"
        )
    by_size = [_of_size(source, imatrix, text) for text in sizes]
    by_bits = [
        Target(f"{one:g}bpw", f"--target-bpw {one:g}", target_of_bits(source, one)) for one in bits
    ]
    return list(dict.fromkeys([*by_size, *by_bits]))


def _of_size(source: Source, imatrix: Imatrix | None, text: str) -> Target:
    name = re.sub(r"\s", "", text)
    asked = f"--target-size {text}"
    if name[:1].isdigit():
        try:
            return Target(name, asked, _with_unit(text))
        except click.BadParameter as error:
            raise click.BadParameter(error.message, param_hint="--target-size") from None
    preset = find_preset(text)
    plan = plan_output(source, Path(name), preset, None, imatrix, allow_requantize=True)
    return Target(f"{preset.name}-size", asked, plan.nbytes)


def _with_unit(text: str) -> int:
    """A size in bytes; a bare number that is too small for a model is taken for a missing unit."""
    nbytes = size(text)
    if text.strip().isdigit() and nbytes < 1 << 20:
        raise click.BadParameter(f"{text!r} is a number of bytes; write {text.strip()}GiB")
    return nbytes
