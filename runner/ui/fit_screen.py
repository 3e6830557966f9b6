"""The screen of `franken-gguf fit`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from franken_gguf.runner.sensitivity.largest_fit import Fit
from franken_gguf.runner.terminal.text import printable, size


def show_fits(console: Console, command: Sequence[str], found: Sequence[Fit]) -> None:
    """Print each answer: size, placement, KV cache, quality, and the command that makes it.

    `command` is that command without the size.
    """
    for fit in found:
        cache = fit.plan.cache
        lines = (
            f"{size(fit.target_size)}: {fit.plan.summary()}",
            f"  KV cache       {cache.n_ctx:,} tokens, keys {cache.type_k}, values {cache.type_v}",
            f"  KL divergence  {fit.divergence:.4f} from the unquantized model, predicted",
            *(f"  {note}" for note in fit.plan.notes),
            f"  {shlex.join(command)} --target-size {fit.target_size}{_in_ram(fit)}",
        )
        for line in lines:
            console.print(Text(printable(line)), soft_wrap=True)


def _in_ram(fit: Fit) -> str:
    """The option for the experts in RAM."""
    if not fit.cpu_moe:
        return ""
    n_layer = fit.plan.n_layers - 1
    return " --cpu-moe" if fit.n_cpu_moe >= n_layer else f" --n-cpu-moe {fit.n_cpu_moe}"
