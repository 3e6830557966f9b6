"""The screen of `franken-gguf convert`: outputs, dry run, fallbacks, imatrix, time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from franken_gguf.quantize.blocks.formats import Kernels
from franken_gguf.quantize.convert import Result
from franken_gguf.quantize.output.estimate import Estimate
from franken_gguf.quantize.output.output import Output, PlannedTensor, type_counts
from franken_gguf.quantize.output.row_converter import Seconds
from franken_gguf.quantize.output.verify import TensorCheck
from franken_gguf.quantize.tensor_types.imatrix import Imatrix
from franken_gguf.quantize.tensor_types.type_choice import layer_of
from franken_gguf.runner.engine.ggml_quantize import GgmlQuantize
from franken_gguf.runner.terminal.text import duration, printable, size

from .verify_screen import worst_tensors

_LAYER = re.compile(r"^blk\.\d+\.")
_NARROW = 80


def say(console: Console, line: str) -> None:
    """Print a notice."""
    console.print(printable(line), style="dim", markup=False, soft_wrap=True)


def show_outputs(
    console: Console, outputs: Sequence[Output], checks: Mapping[Path, Sequence[TensorCheck]]
) -> None:
    """Print each output's files, size, bits per weight, types, fallbacks and worst tensors."""
    for output in outputs:
        _show_files(console, output, size(output.nbytes))
        if output.path in checks:
            console.print(_indented(worst_tensors(checks[output.path], console.width)))


def size_and_types(output: Output, nbytes: str = "") -> str:
    """A line such as `322.1 MiB, 4.91 bits/weight: Q4_K x183, F32 x91`; `nbytes` is its start."""
    types = ", ".join(f"{name} x{n}" for name, n in type_counts(output).items())
    return f"{nbytes or size(output.nbytes)}, {output.bits_per_weight:.2f} bits/weight: {types}"


def _show_files(console: Console, output: Output, nbytes: str) -> None:
    for shard in output.shards:
        console.print(Text(printable(str(shard.path)), style="bold"), soft_wrap=True)
    facts = size_and_types(output, nbytes)
    console.print(_indented(Text(facts)))
    if share := output.refined_share:
        line = f"{100 * share:.0f} % of the quantized weights' codes chosen under second moments"
        console.print(_indented(Text(f"{line}: not the bytes of llama-quantize")))
    if fallen := fallback_line(output):
        console.print(_indented(Text(fallen, style="yellow")))


def _indented(content: RenderableType) -> Padding:
    return Padding(content, (0, 0, 0, 2), expand=False)


def show_time(console: Console, result: Result, spent: Seconds, kernels: Kernels) -> None:
    """Print the time by stage, the workers' time by step, and what ggml quantized."""
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items())
    whole = sum(spent) or 1.0
    steps = ", ".join(
        f"{name} {100 * seconds / whole:.0f} %" for name, seconds in spent._asdict().items()
    )
    workers = "1 process" if result.share.workers == 1 else f"{result.share.workers} processes"
    by_ggml = ", ".join(
        sorted({step.format for step, one in kernels.items() if isinstance(one, GgmlQuantize)})
    )
    ending = f"; {by_ggml} by ggml" if by_ggml else ""
    console.print(f"{stages}; {workers}: {steps}{ending}", style="dim", soft_wrap=True)


def show_plan(console: Console, outputs: Sequence[Output], expected: Estimate) -> None:
    """Print a dry run: the tensors by kind, each output's exact size, and disk, memory and time."""
    console.print(_tensor_kinds(outputs, console.width), Text())
    for output in outputs:
        _show_files(console, output, f"{output.nbytes:,} bytes")
    workers = "1 process" if expected.workers == 1 else f"{expected.workers} processes"
    console.print(
        Text(),
        f"disk    {size(expected.disk_bytes)}",
        f"memory  {size(expected.memory_bytes)} and {workers}",
        f"time    about {duration(expected.seconds)}, with a fast enough disk",
        sep="\n",
        highlight=False,
    )


def _tensor_kinds(outputs: Sequence[Output], width: int) -> Table:
    gap = 1 if width < _NARROW else 2
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("tensor", overflow="fold", ratio=2)
    table.add_column("shape", overflow="fold", ratio=1)
    for output in outputs:
        table.add_column(f"{output.preset.name}", overflow="fold", ratio=1)
    kinds: dict[tuple[str, tuple[int, ...], str], list[int]] = {}
    for index, tensor in enumerate(outputs[0].tensors):
        name = _LAYER.sub("blk.*.", tensor.source.name)
        kind = name, tensor.source.shape, tensor.source.stored.name
        kinds.setdefault(kind, []).append(index)
    for (name, shape, stored), indices in kinds.items():
        number = f"{len(indices)} x " if len(indices) > 1 else ""
        cells = [_types_and_size([output.tensors[i] for i in indices]) for output in outputs]
        table.add_row(printable(name), f"{number}{list(shape)} {stored}", *cells)
    return table


def _types_and_size(tensors: Sequence[PlannedTensor]) -> str:
    """A line for each type, the most common first: number of tensors, size."""
    bytes_of: dict[str, list[int]] = {}
    for tensor in tensors:
        bytes_of.setdefault(tensor.choice.type.name, []).append(tensor.nbytes)
    ranked = sorted(bytes_of.items(), key=lambda item: len(item[1]), reverse=True)
    return "\n".join(
        f"{name}{f' x{len(sizes)}' if len(ranked) > 1 else ''} {size(sum(sizes))}"
        for name, sizes in ranked
    )


def fallback_line(output: Output) -> str:
    """One line about tensors whose rows do not fit their type's blocks; empty if there are none."""
    fallen = [tensor for tensor in output.tensors if tensor.choice.fell_back]
    if not fallen:
        return ""
    kinds = Counter(f"{t.choice.wanted.name} -> {t.choice.type.name}" for t in fallen)
    which = ", ".join(f"{kind} x{n}" for kind, n in kinds.most_common())
    return (
        f"{len(fallen)} tensors ({size(sum(t.nbytes for t in fallen))}) have rows that do not fit "
        f"their type and fell back ({which}): {output.bits_per_weight:.2f} bits/weight instead of "
        f"{output.wanted_bits_per_weight:.2f}"
    )


def show_imatrix(console: Console, imatrix: Imatrix, outputs: Sequence[Output]) -> None:
    """Print which experts the calibration never reached, by layer, and which tensors it lacks."""
    layers: dict[int, set[int]] = {}
    for name, experts in imatrix.unreached.items():
        layers.setdefault(layer_of(name), set()).update(experts)
    if layers:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column("layer", justify="right")
        table.add_column("experts that no calibration token reached", overflow="fold")
        for layer, experts_of_layer in sorted(layers.items()):
            table.add_row(str(layer), ", ".join(map(str, sorted(experts_of_layer))))
        console.print(table)
    missing = sorted({name for output in outputs for name in output.without_importance})
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        console.print(
            f"{printable(imatrix.path.name)} lacks {printable(', '.join(missing[:3]))}{more}: "
            "quantized without it",
            style="dim",
            markup=False,
        )
