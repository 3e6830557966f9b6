"""The probability of a sampled token, and its likeliest alternatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ALTERNATIVES = 5
# Unless a number is given, alternatives are tokens within this distance of the highest logit: few,
# and fast to sort. Farther ones have less than a hundredth of its probability.
_NEAR = 5.0


@dataclass(frozen=True)
class Odds:
    """Probabilities from the model's own logits, before any sampler."""

    token: int
    probability: float
    alternatives: tuple[tuple[int, float], ...]
    """The likeliest tokens and their probabilities, `token` included if it is among them."""


def odds(logits: NDArray[np.float32], token: int, count: int | None = None) -> Odds:
    """The Odds of `token` by `logits`, (vocabulary,); `count` alternatives if it is given."""
    highest = logits.max()
    total = np.exp(logits - highest).sum()
    if count is None:
        near = np.flatnonzero(logits >= highest - _NEAR)
    else:
        near = np.argpartition(-logits, count - 1)[:count] if count else np.empty(0, np.int64)
    best = near[np.argsort(-logits[near], kind="stable")[: count or _ALTERNATIVES]]
    shares = np.exp(logits[[*best, token]] - highest) / total
    pairs = zip(best.tolist(), shares[:-1].tolist(), strict=True)
    return Odds(token, float(shares[-1]), tuple(pairs))
