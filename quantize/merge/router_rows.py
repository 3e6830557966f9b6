"""The router's rows by gate_mode: mergekit-moe's four, and balanced, which is ours. Pure.

A token goes to the experts whose rows have the largest dot products with its state. A row made of
the base model's states on some prompts therefore attracts tokens like those in the prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from franken_gguf.quantize.blocks.formats import F32

from .router_regression import fitted_rows

_SEED = 0
_LEAST_NORM = 1e-8
_DEGENERATE = 5.0


def rows_of_states(positive: Sequence[F32], negative: Sequence[F32]) -> F32:
    """One expert's rows for `gate_mode: hidden`, float32 [layers, hidden], each of norm 1.

    The mean of `positive` minus the mean of `negative`, which can be empty. Both have an array
    [layers, 1, hidden] for each prompt: the input of each layer at the prompt's last token.
    """
    rows = np.mean(positive, axis=0)
    if len(negative):
        rows = rows - np.mean(negative, axis=0)
    return _normalized(rows[:, 0])


def balanced_rows(states: Sequence[Sequence[F32]]) -> F32:
    """Rows for `gate_mode: balanced`, float32 [layers, experts, hidden].

    `states` has, for each expert and each of its prompts, an array [layers, tokens, hidden]: the
    input of each layer's router at every token.
    """
    by_owner = [np.concatenate(prompts, axis=1) for prompts in states]
    owners = np.repeat(np.arange(len(by_owner)), [tokens.shape[1] for tokens in by_owner])
    together = np.concatenate(by_owner, axis=1)
    return np.stack([fitted_rows(layer, owners, len(by_owner)) for layer in together])


def gate_row(own: Sequence[F32], others: Sequence[F32]) -> F32:
    """The row of a shared expert's gate for `gate_mode: balanced`, float32 [layers, 1, hidden].

    Its sigmoid is the probability that a token is of the shared expert's `own` prompts, not of the
    `others`; both as in balanced_rows.
    """
    rows = balanced_rows([own, others])
    return np.ascontiguousarray(rows[:, :1] - rows[:, 1:])


def rows_of_embeddings(positive: F32, negative: F32, layers: int) -> F32:
    """One expert's rows for `gate_mode: cheap_embed`, of norm 1, the same in every layer.

    `positive` and `negative` are [tokens, hidden], the embeddings of all tokens of all prompts.
    """
    row = _normalized(positive.sum(axis=0))
    if len(negative):
        row = _normalized(row - _normalized(negative.sum(axis=0)))
    return np.tile(row, (layers, 1))


def random_rows(layers: int, experts: int, hidden: int) -> F32:
    """Rows for `gate_mode: random`, normally distributed: float32 [layers, experts, hidden].

    The seed is fixed, so that a recipe always gives the same files.
    """
    return np.random.default_rng(_SEED).standard_normal((layers, experts, hidden), np.float32)


def uniform_rows(layers: int, experts: int, hidden: int) -> F32:
    """Rows for `gate_mode: uniform_random`, within +-1 / sqrt(hidden), like torch's Linear."""
    rows = np.random.default_rng(_SEED).random((layers, experts, hidden), np.float32)
    return np.asarray((rows * 2 - 1) / np.sqrt(np.float32(hidden)), np.float32)


def degenerate_layers(rows: F32) -> list[int]:
    """Layers whose rows, of [layers, experts, hidden], have a condition number of 5 or more.

    mergekit-moe warns from the same number on.
    """
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    return [n for n, layer in enumerate(values) if layer[0] >= _DEGENERATE * layer[-1]]


def _normalized(rows: F32) -> F32:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _LEAST_NORM), np.float32)


def by_expert(rows: Sequence[F32]) -> F32:
    """The rows of each expert, [layers, hidden], as [layers, experts, hidden]."""
    return np.stack(rows, axis=1)
