"""The router's rows, one for each layer and expert: mergekit-moe's four modes and ours. Pure.

A token goes to the experts whose rows have the largest products with its state. A row made of the
states that prompts leave in the base model therefore draws tokens like theirs.
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
    """One expert's rows of `gate_mode: hidden`, float32 [layers, hidden], of length 1.

    `positive` and `negative` hold for each prompt, [layers, 1, hidden], the states that enter each
    layer at its last token; there may be none of the latter. Mean less mean.
    """
    rows = np.mean(positive, axis=0)
    if len(negative):
        rows = rows - np.mean(negative, axis=0)
    return _normalized(rows[:, 0])


def balanced_rows(states: Sequence[Sequence[F32]]) -> F32:
    """Rows of `gate_mode: balanced`, float32 [layers, experts, hidden].

    `states` are, for each expert, those of its prompts, [layers, tokens, hidden]: what the router
    of each layer sees at every token.
    """
    by_owner = [np.concatenate(prompts, axis=1) for prompts in states]
    owners = np.repeat(np.arange(len(by_owner)), [each.shape[1] for each in by_owner])
    together = np.concatenate(by_owner, axis=1)
    return np.stack([fitted_rows(layer, owners, len(by_owner)) for layer in together])


def rows_of_embeddings(positive: F32, negative: F32, layers: int) -> F32:
    """One expert's rows of `gate_mode: cheap_embed`, the same in every layer, of length 1.

    `positive` and `negative` are [tokens, hidden], the embeddings of all tokens of all prompts.
    """
    row = _normalized(positive.sum(axis=0))
    if len(negative):
        row = _normalized(row - _normalized(negative.sum(axis=0)))
    return np.tile(row, (layers, 1))


def random_rows(layers: int, experts: int, hidden: int) -> F32:
    """Rows of `gate_mode: random`, normally distributed: [layers, experts, hidden].

    Drawn from a fixed seed: a recipe gives the same files each time.
    """
    return np.random.default_rng(_SEED).standard_normal((layers, experts, hidden), np.float32)


def uniform_rows(layers: int, experts: int, hidden: int) -> F32:
    """Rows of `gate_mode: uniform_random`, from -1 to 1 over sqrt(hidden), as torch's Linear."""
    rows = np.random.default_rng(_SEED).random((layers, experts, hidden), np.float32)
    return np.asarray((rows * 2 - 1) / np.sqrt(np.float32(hidden)), np.float32)


def degenerate_layers(rows: F32) -> list[int]:
    """Layers whose rows [layers, experts, hidden] are too much alike: a condition number from 5.

    mergekit-moe warns by the same bound.
    """
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    return [n for n, each in enumerate(values) if each[0] >= _DEGENERATE * each[-1]]


def _normalized(rows: F32) -> F32:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _LEAST_NORM), np.float32)


def by_expert(rows: Sequence[F32]) -> F32:
    """The rows of each expert, [layers, hidden], as [layers, experts, hidden]."""
    return np.stack(rows, axis=1)
