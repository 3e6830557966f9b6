"""What the shell offers at Tab for options whose values are a fixed or stored set of names."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import suppress

import click

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.tensor_types.type_presets import PRESETS
from franken_gguf.runner.planning.memory_use import KV_TYPES

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def offering(names: Callable[[], Iterable[str]]) -> Completer:
    """Offer those of `names` that begin with what was typed, whatever its case.

    bash inserts them as they are, so names that would need quotes are left out. If the file behind
    `names` cannot be read, nothing is offered: a line being typed is no place for an error.
    """

    def complete(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        with suppress(FrankenError, OSError):
            found = [name for name in names() if name.lower().startswith(typed.lower())]
            return [name for name in found if shlex.quote(name) == name]
        return []

    return complete


def _sampling_presets() -> Iterable[str]:
    from franken_gguf.runner.sampling.sampling_presets import presets  # noqa: PLC0415 - only at Tab

    return presets()


def _sessions() -> Iterable[str]:
    from franken_gguf.runner.conversation.session import Sessions  # noqa: PLC0415 - only at Tab

    return [session.name for session in Sessions().all()]


quant_types = offering(lambda: PRESETS)
tensor_types = offering(lambda: dict.fromkeys(one.default.name for one in PRESETS.values()))
kv_types = offering(lambda: KV_TYPES)
sampling_presets = offering(_sampling_presets)
sessions = offering(_sessions)
