"""The states that prompts leave in a checkpoint's model: it is converted, run, and thrown away."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.terminal.text import size

from .engine import Engine
from .loading import DEFAULTS, LoadOptions
from .probe import StateProbe, entering, router_inputs
from .temporary_gguf import temporary_gguf

F32 = NDArray[np.float32]

_LEAST_CONTEXT = 512
_BATCH = 64  # tokens whose logits are computed, and thrown away, at once
_MOST_TOKENS = 1024  # of all prompts together whose states are kept: 0.5 GB for a 7B model


def hidden_states(
    source: Source,
    prompts: Sequence[Sequence[int]],
    preset: Preset,
    folder: Path,
    *,
    of_routers: bool = False,
    processes: int = 1,
    options: LoadOptions = DEFAULTS,
    report: Callable[[int], None] = lambda _: None,
) -> list[F32]:
    """What enters each layer at the last token of each prompt, float32 [layers, 1, hidden].

    With `of_routers` what each layer's feed-forward reads, at tokens all over the prompt, [layers,
    tokens, hidden]. `prompts` are token ids, none empty or longer than the model's context.
    Meanwhile a GGUF file in `folder` takes the room of the model in `preset`. `report` is told how
    many prompts are done. Raises a FrankenError.
    """
    with temporary_gguf(folder) as file:
        output = plan_output(source, file, preset)
        _check_room(output, folder)
        convert(source, [output], threads=processes)
        header = read_header(file)
        least = min(_LEAST_CONTEXT, header.integer("llama.context_length"))
        n_ctx = max(least, *map(len, prompts))
        options = replace(options, n_ctx=n_ctx, n_outputs=_BATCH if of_routers else 1)
        probe, read = (router_inputs(), _everywhere) if of_routers else (entering(), _last)
        each = _most_of_each([len(prompt) for prompt in prompts])
        found = []
        with Engine(header, options, probe=probe) as engine:
            for done, prompt in enumerate(prompts, 1):
                engine.forget_from(0)
                found.append(_spread(read(engine, probe, prompt), each))
                report(done)
        return found


def _check_room(output: Output, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if output.nbytes > free:
        raise OutputError(
            f"{folder}: the base model takes {size(output.nbytes)} here while it runs in "
            f"{output.preset.name}, {size(free)} is free; make room, or take a smaller type"
        )


def _last(engine: Engine, probe: StateProbe, prompt: Sequence[int]) -> F32:
    engine.evaluate(prompt)
    # One node more is heard than there are layers: what the last one hands on.
    return np.stack([probe.states[layer][-1:] for layer in range(len(probe.states) - 1)])


def _everywhere(engine: Engine, probe: StateProbe, prompt: Sequence[int]) -> F32:
    parts = []
    for start in range(0, len(prompt), _BATCH):
        # The last layer computes only those tokens whose logits are asked for.
        engine.logits(prompt[start : start + _BATCH])
        parts.append(np.stack([probe.states[layer] for layer in range(len(probe.states))]))
    return np.concatenate(parts, axis=1)


def _most_of_each(lengths: Sequence[int]) -> int:
    """How many tokens of each prompt are kept, so that short ones leave their room to long ones."""
    most = 1
    while most < max(lengths) and sum(min(n, most + 1) for n in lengths) <= _MOST_TOKENS:
        most += 1
    return most


def _spread(states: F32, most: int) -> F32:
    """At most so many tokens, evenly spaced, the last among them."""
    tokens = states.shape[1]
    if tokens <= most:
        return states
    return np.ascontiguousarray(states[:, np.linspace(tokens - 1, 0, most).round().astype(int)])
