"""The states that prompts leave in a checkpoint's model: it is converted, run, and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_header import Header, read_header
from franken_gguf.quantize.output import plan_output
from franken_gguf.quantize.presets import Preset
from franken_gguf.quantize.source import Source

from .backend import EngineError
from .engine import Engine
from .loading import DEFAULTS, LoadOptions
from .probe import StateProbe

_LEAST_CONTEXT = 512


def hidden_states(
    source: Source,
    prompts: Sequence[Sequence[int]],
    preset: Preset,
    folder: Path,
    *,
    processes: int = 1,
    options: LoadOptions = DEFAULTS,
    report: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """What enters each layer at the last token of each prompt: float32 [prompts, layers, hidden].

    `prompts` are token ids. Meanwhile a GGUF file in `folder` takes the room of the model in
    `preset`. `report` is told how many prompts are done. Raises a FrankenError, KeyboardInterrupt.
    """
    with TemporaryDirectory(prefix=".franken-gguf-", dir=folder) as temporary:
        file = Path(temporary) / "base.gguf"
        convert(source, [plan_output(source, file, preset)], threads=processes)
        return _states(read_header(file), prompts, options, report)


def _states(
    header: Header,
    prompts: Sequence[Sequence[int]],
    options: LoadOptions,
    report: Callable[[int], None],
) -> NDArray[np.float32]:
    layers = header.integer("llama.block_count")
    longest = max(map(len, prompts))
    if not min(map(len, prompts)):
        raise EngineError("a prompt of the recipe gives no token; write another")
    if longest > (most := header.integer("llama.context_length")):
        raise EngineError(
            f"a prompt of the recipe is {longest} tokens, the base model reads {most}; shorten it"
        )
    options = replace(options, n_ctx=max(longest + 1, _LEAST_CONTEXT))
    probe = StateProbe()
    found = []
    with Engine(header, options, probe=probe) as engine:
        for done, prompt in enumerate(prompts, 1):
            engine.forget_from(0)
            engine.evaluate(prompt)
            found.append(np.stack([probe.last[layer] for layer in range(layers)]))
            report(done)
    return np.stack(found)
