"""The screen of `franken-gguf doctor`."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from franken_gguf.runner.doctor.gpus import Unused
from franken_gguf.runner.doctor.report import Checkup
from franken_gguf.runner.engine.cpu_check import Verdict
from franken_gguf.runner.terminal.text import printable, size


def show_checkup(console: Console, checkup: Checkup) -> None:
    """Print the build, the memory, the devices, and unused GPUs with the fix."""
    console.print(_machine(checkup), Text())
    if checkup.rebuild:
        console.print(Text("rebuild llama.cpp for this CPU:", "bold"))
        _show_command(console, checkup.rebuild)
        console.print(Text())
    if not checkup.cpu_check.can_run:
        return
    console.print(_devices(checkup), Text())
    for unused in checkup.unused:
        _show_unused(console, unused)
    if not checkup.unused and all(device.kind == "CPU" for device in checkup.devices):
        console.print(Text("no GPU found: models run on the CPU"))


def _machine(checkup: Checkup) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in (
        ("franken-gguf", f"{checkup.version}, Python {checkup.python}, {checkup.platform}"),
        ("llama.cpp", f"llama-cpp-python {checkup.llama_cpp_python}"),
        ("built with", ", ".join(checkup.backends)),
        ("CPU", ", ".join(checkup.cpu_features)),
        ("CPU check", _verdict(checkup.cpu_check)),
        ("cores", f"{checkup.cores} ({checkup.logical_cores} logical), {checkup.threads} used"),
        ("RAM", f"{size(checkup.ram_available)} of {size(checkup.ram)} free"),
    ):
        if text:
            grid.add_row(label, printable(text))
    return grid


def _verdict(check: Verdict) -> str:
    if check.unchecked:
        return f"not checked ({check.unchecked})"
    if check.can_repack:
        return "works"
    if check.can_run:
        return f"crashes with repacked weights ({check.fault}): models are loaded without"
    return f"crashes ({check.fault}): llama.cpp may have been built for another CPU"


def _devices(checkup: Checkup) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("device", "type"):
        table.add_column(heading, no_wrap=True)
    for heading in ("free", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("description", overflow="fold")
    for device in checkup.devices:
        # ggml reports neither free RAM nor a container's limit.
        is_cpu = device.kind == "CPU"
        free = checkup.ram_available if is_cpu else device.free
        total = checkup.ram if is_cpu else device.total
        table.add_row(
            printable(device.name),
            device.kind,
            size(free),
            size(total),
            printable(device.description),
        )
    return table


def _show_unused(console: Console, unused: Unused) -> None:
    gpu = printable(unused.gpu)
    if not unused.command:
        console.print(Text(f"{gpu} needs {unused.needs}", "bold"))
        return
    console.print(Text(f"{gpu} is not used; rebuild llama.cpp to use it:", "bold"))
    _show_command(console, unused.command)
    if unused.needs:
        console.print(Text(f"  after installing {unused.needs}"))
    if unused.ready_made:
        needs = f", which needs {unused.ready_made_needs}" if unused.ready_made_needs else ""
        console.print(Text(f"or, without compiling, llama-cpp-python's ready-made wheel{needs}:"))
        _show_command(console, unused.ready_made)


def _show_command(console: Console, command: str) -> None:
    """On one line, so that it can be copied."""
    console.print(Text(f"  {command}"), soft_wrap=True)
