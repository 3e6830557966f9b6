"""How many answers are drawn side by side: bounded by memory, and the same in every run. Pure."""

from __future__ import annotations

from dataclasses import replace

from franken_gguf.quantize.gguf_file.header import Header
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.planning.memory_use import Cache
from franken_gguf.runner.planning.model_shape import model_shape

from .tasks import Task, Tasks

_MOST_ANSWERS = 32
"""More make a model of the demo's size no faster."""
_SCORED = 64
"""Sequences for the options scored together."""
_CACHE_SHARE = 4
"""The KV cache takes at most this fraction of the weights' bytes."""


def side_by_side(
    options: LoadOptions, baseline: Header, tasks: Tasks, settings: Settings
) -> LoadOptions:
    """`options` with the context and the sequences for as many answers as memory allows.

    It follows from the baseline's header, not from the memory that is free now: the batches, on
    which the last bits of the answers depend, are the same in every run. Raises GGUFError.
    """
    if not tasks.prompts:
        return replace(options, n_ctx=tasks.n_ctx if options.n_ctx is None else options.n_ctx)
    shape = model_shape(baseline)
    most = options.n_ctx or shape.n_ctx_train
    if options.n_ctx is None:
        weights = sum(weight.nbytes for weight in shape.weights)
        cache = Cache(most, options.type_k or "f16", options.type_v or "f16")
        nbytes = sum(cache.nbytes(keys, values) for keys, values in shape.kv)
        most = min(most, cache.n_ctx * weights // (_CACHE_SHARE * max(1, nbytes)))
    longest = max(task.n_ctx for task in tasks.prompts)
    count = max(1, min(_MOST_ANSWERS, most // longest))
    n_ctx = max(tasks.n_ctx, count * longest) if options.n_ctx is None else options.n_ctx
    return replace(options, n_ctx=n_ctx, n_sequences=count + _SCORED)


def answers_at_once(task: Task, max_tokens: int, engine: Engine) -> int:
    """How many answers to a task are drawn together in this context, at least one."""
    longest = max(len(wording) for orders in task.wordings for wording in orders) + max_tokens
    room = 1 + max(0, engine.n_ctx - task.n_ctx) // longest
    return max(1, min(engine.n_sequences - _SCORED, room))
