"""The screen of `franken-gguf plan`."""

from __future__ import annotations

import shlex

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from franken_gguf.runner.planning.memory_use import COMPUTE, CPU, KV_CACHE, REPACKED, Cache
from franken_gguf.runner.planning.model_shape import ModelShape
from franken_gguf.runner.planning.placement import Plan
from franken_gguf.runner.terminal.text import printable, size

_KINDS = ("attention", "experts", "feed-forward", "router", "norms", "embeddings", "other")
_NARROW = 80


def show_plan(
    console: Console, shape: ModelShape, plan: Plan, workers: tuple[str, ...] = ()
) -> None:
    """Print the decision, the table of bytes, and what to change if it does not fit.

    `workers` are the RPC endpoints of the plan's devices RPC0 and so on.
    """
    console.print(_decision(shape, plan), Text(), _table(plan, console.width), Text())
    lines = [Text(printable(note)) for note in plan.notes]
    for name, missing in plan.short.items():
        where = "RAM" if name == CPU else printable(name)
        lines.append(Text(f"{where} lacks {size(missing)}", "bold"))
    lines += [Text(f"- {printable(line)}") for line in plan.advice]
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)
    if plan.fits:
        command = ["llama-cli", "-m", shape.name]
        if workers:
            command += ["--rpc", ",".join(workers)]
        console.print(Text(printable(shlex.join((*command, *plan.flags)))), soft_wrap=True)


def _decision(shape: ModelShape, plan: Plan) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    cache = plan.cache
    grid.add_row("model", printable(shape.name))
    grid.add_row("context", _context(shape, cache))
    grid.add_row("KV cache", f"keys {cache.type_k}, values {cache.type_v}")
    grid.add_row("layers", printable(plan.summary()))
    grid.add_row("loading", _loading(plan))
    return grid


def _context(shape: ModelShape, cache: Cache) -> str:
    if cache.n_ctx > shape.n_ctx_train:
        return f"{cache.n_ctx:,} tokens; the model was trained for {shape.n_ctx_train:,}"
    return f"{cache.n_ctx:,} of {shape.n_ctx_train:,} tokens"


def _loading(plan: Plan) -> str:
    """How the weights get into RAM, and what the alternative would need."""
    copies = plan.used[CPU].get(REPACKED, 0)
    both = size(plan.total_ram - copies + plan.repackable)
    if not plan.repackable:
        return "mapped" if plan.mmap else "read into memory"
    if plan.mmap and plan.repack:
        return f"mapped, and repacked for the CPU in a second copy of {size(copies)}"
    if plan.mmap:
        return f"mapped, not repacked (repacking would need {both})"
    if plan.repack:
        return f"read into memory, repacked for the CPU (mapping would need {both})"
    return "read into memory, not repacked"


def _table(plan: Plan, width: int) -> Table:
    gap = 1 if width < _NARROW else 3
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("bytes", no_wrap=True)
    names = [*plan.devices, CPU]
    for name in names:
        heading = "RAM" if name == CPU else printable(name)
        # With five devices in 60 columns the unit folds below its number.
        table.add_column(heading, justify="right", overflow="fold")
    for kind in (*_KINDS, REPACKED, KV_CACHE, COMPUTE):
        row = [plan.used.get(name, {}).get(kind, 0) for name in names]
        if any(row):
            table.add_row(kind, *map(_cell, row))
    table.add_section()
    table.add_row("total", *(_cell(plan.total(name)) for name in names), style="bold")
    table.add_row("headroom", *(_cell(plan.headroom.get(name, 0)) for name in names))
    table.add_row("available", *(_cell(plan.available.get(name, 0)) for name in names))
    return table


def _cell(nbytes: int) -> str:
    return size(nbytes) if nbytes else "-"
