"""Shell completion for options whose values are names: fixed, or stored in files."""

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
    """A completer that offers the `names` that begin with the typed text, ignoring case.

    bash inserts them unquoted, so names that need quotes are left out. If reading `names` fails,
    nothing is offered: an error message would disturb the line being typed.
    """

    def complete(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        with suppress(FrankenError, OSError):
            found = [name for name in names() if name.lower().startswith(typed.lower())]
            return [name for name in found if shlex.quote(name) == name]
        return []

    return complete


def _sampling_presets() -> Iterable[str]:
    from franken_gguf.runner.sampling.sampling_presets import presets  # noqa: PLC0415 - 9 ms

    return presets()


def _sessions() -> Iterable[str]:
    from franken_gguf.runner.conversation.session import Sessions  # noqa: PLC0415 - 25 ms

    return [session.name for session in Sessions().all()]


quant_types = offering(lambda: PRESETS)
tensor_types = offering(lambda: dict.fromkeys(one.default.name for one in PRESETS.values()))
kv_types = offering(lambda: KV_TYPES)
sampling_presets = offering(_sampling_presets)
sessions = offering(_sessions)
