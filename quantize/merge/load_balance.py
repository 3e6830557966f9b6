"""The load of a mixture's experts over a text, and router rows adjusted to balance it. Pure.

A router has no bias that could be raised for an expert with too small a load. But the states it
sees have much in common: with m their mean over a text, x m / |m|^2 is near 1 for every token
(1.00 +- 0.10 in SmolLM2-135M). So c m / |m|^2, added to an expert's row, raises its score by about
c on every token and keeps the differences between tokens.

Each c is moved against the expert's surplus, in ever smaller steps, until every load is within the
bound: Wang et al. 2024, "Auxiliary-loss-free load balancing", applied to finished rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32

_STEPS = 500
_FIRST_STEP = 0.25  # of the scores' standard deviation, for a load that is twice the average
_SLOWING = 20


def chosen(rows: F32, states: F32, used: int) -> NDArray[np.bool_]:
    """Whether each expert is among the `used` with the largest scores: [layers, tokens, experts].

    `rows` are [layers, experts, hidden], `states` [layers, tokens, hidden].
    """
    return np.stack([_largest(x @ row.T, used) for row, x in zip(rows, states, strict=True)])


def load_range(rows: F32, states: F32, used: int) -> tuple[float, float]:
    """The smallest and largest load of any expert in any layer, as a share of the tokens."""
    loads = chosen(rows, states, used).mean(axis=1)
    return float(loads.min()), float(loads.max())


def wins(rows: F32, states: F32, expert: int, used: int) -> bool:
    """Whether `expert` has the largest weight in a prompt, over all layers and tokens.

    Its weight in a token is its share of the softmax over the scores of the active experts.
    """
    weights = np.zeros(rows.shape[1])
    for row, x in zip(rows, states, strict=True):
        scores = x @ row.T
        active = np.where(_largest(scores, used), scores, -np.inf)
        powers = np.exp(active - active.max(axis=1, keepdims=True))
        weights += (powers / powers.sum(axis=1, keepdims=True)).sum(axis=0)
    return bool(weights[expert] > np.delete(weights, expert).max())


def balance_load(rows: F32, states: F32, used: int, bound: float) -> F32:
    """`rows` adjusted until each expert's share of the tokens is within `bound` of the average.

    The average share is used / experts; a bound of 0.25 allows 0.75 to 1.25 times that, in every
    layer. A layer that does not get there has the rows that came closest. Shapes as in `chosen`.
    """
    pairs = zip(rows, states, strict=True)
    return np.stack([_balance_layer(row, x, used, bound) for row, x in pairs])


def _balance_layer(rows: F32, states: F32, used: int, bound: float) -> F32:
    x = states.astype(np.float64)
    mean = x.mean(axis=0)
    direction = mean / ((mean @ mean) or 1.0)
    scores, common = x @ rows.T.astype(np.float64), (x @ direction)[:, None]
    step = _FIRST_STEP * float(scores.std())
    shift = best = np.zeros(len(rows))
    least = np.inf
    for number in range(_STEPS):
        loads = _largest(scores + common * shift, used).mean(axis=0)
        surplus = loads * len(rows) / used - 1
        if (worst := float(np.abs(surplus).max())) < least:
            least, best = worst, shift
        if worst <= bound:
            break
        shift = shift - step / (1 + number / _SLOWING) * np.minimum(surplus, 1)
    return np.asarray(rows + best[:, None] * direction, np.float32)


def _largest(scores: NDArray[np.floating], used: int) -> NDArray[np.bool_]:
    """Whether each score, [tokens, experts], is among the `used` largest of its token."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :used]
    mask = np.zeros(scores.shape, np.bool_)
    np.put_along_axis(mask, order, True, axis=1)
    return mask
