"""Hidden states of a checkpoint's model at given prompts: converts it, runs it and deletes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.quantize.tensor_types.type_presets import Preset

from .engine import Engine
from .loading import DEFAULTS, LoadOptions
from .probe import StateProbe, layer_inputs, router_inputs
from .temporary_gguf import converted

F32 = NDArray[np.float32]

_MIN_CONTEXT = 512
_BATCH = 64  # tokens evaluated at once with logits for each, which nothing reads
_MAX_TOKENS = 1024  # of all prompts together whose states are kept: 0.5 GB for a 7B model


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
    """Each prompt's input to every layer at its last token, float32 [layers, 1, hidden].

    With `of_routers` the input of every layer's feed-forward, at tokens spread over the prompt,
    [layers, tokens, hidden]. `prompts` are token ids, none empty or longer than the model's
    context. The model is converted to `preset` as a temporary GGUF file in `folder`. `report` is
    called with the number of prompts that are done. Raises FrankenError.
    """
    with converted(source, folder, preset, processes) as header:
        shortest = min(_MIN_CONTEXT, _context_length(header))
        n_ctx = max(shortest, *map(len, prompts))
        options = replace(options, n_ctx=n_ctx, n_outputs=_BATCH if of_routers else 1)
        probe = router_inputs() if of_routers else layer_inputs()
        read = _at_every_token if of_routers else _at_last_token
        limit = _tokens_per_prompt([len(prompt) for prompt in prompts])
        states = []
        with Engine(header, options, probe=probe) as engine:
            for done, prompt in enumerate(prompts, 1):
                engine.forget_from(0)
                states.append(_evenly_spaced(read(engine, probe, prompt), limit))
                report(done)
        return states


def _context_length(header: Header) -> int:
    return header.integer(f"{header.text('general.architecture')}.context_length")


def _at_last_token(engine: Engine, probe: StateProbe, prompt: Sequence[int]) -> F32:
    engine.evaluate(prompt)
    # The last state is the last layer's output, which enters none.
    return np.stack([probe.states[layer][-1:] for layer in range(len(probe.states) - 1)])


def _at_every_token(engine: Engine, probe: StateProbe, prompt: Sequence[int]) -> F32:
    parts = []
    for start in range(0, len(prompt), _BATCH):
        # The last layer computes only the tokens whose logits are requested.
        engine.logits(prompt[start : start + _BATCH])
        parts.append(np.stack([probe.states[layer] for layer in range(len(probe.states))]))
    return np.concatenate(parts, axis=1)


def _tokens_per_prompt(lengths: Sequence[int]) -> int:
    """The highest limit per prompt that keeps all prompts together within _MAX_TOKENS."""
    limit = 1
    while limit < max(lengths) and sum(min(n, limit + 1) for n in lengths) <= _MAX_TOKENS:
        limit += 1
    return limit


def _evenly_spaced(states: F32, limit: int) -> F32:
    """At most `limit` of the tokens, [layers, tokens, hidden], the last one among them."""
    tokens = states.shape[1]
    if tokens <= limit:
        return states
    return np.ascontiguousarray(states[:, np.linspace(tokens - 1, 0, limit).round().astype(int)])
