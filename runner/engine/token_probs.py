"""How likely a token was, and what else might have come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ALTERNATIVES = 5
# Alternatives are looked for among tokens this near to the likeliest, in logits: few, and quick to
# find. Below there is less than a hundredth of its probability.
_NEAR = 5.0


@dataclass(frozen=True)
class Odds:
    """By the model itself, before any sampler."""

    token: int
    probability: float
    alternatives: tuple[tuple[int, float], ...]
    """The likeliest tokens with their probabilities, the one that came among them if it is one."""


def odds(logits: NDArray[np.float32], token: int) -> Odds:
    """Of `token` in a row of logits."""
    highest = logits.max()
    total = np.exp(logits - highest).sum()
    near = np.flatnonzero(logits >= highest - _NEAR)
    best = near[np.argsort(-logits[near], kind="stable")[:_ALTERNATIVES]]
    shares = np.exp(logits[[*best, token]] - highest) / total
    pairs = zip(best.tolist(), shares[:-1].tolist(), strict=True)
    return Odds(token, float(shares[-1]), tuple(pairs))
