"""Trains routers: Adam on the exact gradient of a mixture's loss, judged on text that is held out.

An expert that has had few tokens lately is favoured, so that none of them is left out. The steps
are measured in scores, not weights: a layer's rate is divided by how large the router's inputs are
there, so that models of any size and scale learn at the same speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.errors import CheckpointError

from .loss import Measured, measure
from .mixture import Mixture
from .passages import Passages

SEQUENCES = 4
"""Passages in a step."""
DEFAULT_STEPS = 24
_RATE, _WARM_UP = 0.45, 5
_MOMENTUM, _SQUARES, _TINY = 0.9, 0.98, 1e-8
_LEAST_LOAD, _FAVOUR = 0.5, 0.02
"""An expert with less than this part of an even share is favoured, by at most this many nats."""


@dataclass(frozen=True)
class Trained:
    """Rows that were trained, and what the mixture does on text that is held out."""

    rows: F32
    before: list[Measured]
    """With the rows from before, for each text."""
    after: list[Measured]
    """With the trained rows."""

    @property
    def gain(self) -> float:
        """By how much the mean loss has fallen, in nats for a token."""
        before, after = (np.concatenate([m.losses for m in of]) for of in (self.before, self.after))
        return float(before.mean() - after.mean())


def train(
    mixture: Mixture,
    rows: F32,
    passages: Passages,
    held_out: Sequence[Passages],
    steps: int,
    report: Callable[[int, float], None] = lambda _done, _loss: None,
) -> Trained:
    """Train `rows` for `steps` steps of SEQUENCES passages each, which are used in turn.

    `report` is called with the steps that are done and the last one's loss. Raises CheckpointError
    if the loss is NaN or Inf.
    """
    before = _on(mixture, rows, held_out)
    adam = _Adam(rows)
    loads = np.mean([one.loads for one in before], axis=0)
    for done, tokens in enumerate(_batches(passages, steps), 1):
        lack = 1 - loads * mixture.experts / mixture.used / _LEAST_LOAD
        favours = (_FAVOUR * np.maximum(lack, 0)).astype(np.float32)
        measured = measure(mixture, adam.rows, tokens, with_gradient=True, favours=favours)
        _check(mixture, measured)
        loads = _MOMENTUM * loads + (1 - _MOMENTUM) * measured.loads
        adam.step(measured, _RATE * _schedule(done, steps))
        report(done, float(measured.losses.mean()))
    return Trained(adam.rows, before, _on(mixture, adam.rows, held_out))


def _on(mixture: Mixture, rows: F32, texts: Sequence[Passages]) -> list[Measured]:
    found = [measure(mixture, rows, text) for text in texts]
    for measured in found:
        _check(mixture, measured)
    return found


def _check(mixture: Mixture, measured: Measured) -> None:
    if not np.isfinite(measured.losses).all():
        raise CheckpointError(
            f"{mixture.path}: its loss on the text is NaN or Inf; the model is broken, download or "
            "convert it again"
        )


def _batches(passages: Passages, steps: int) -> Iterator[Passages]:
    for step in range(steps):
        first = step * SEQUENCES
        yield passages[np.arange(first, first + SEQUENCES) % len(passages)]


def _schedule(step: int, steps: int) -> float:
    """The rate's share at a step: rising to 1, then along a cosine to 0.1."""
    return min(1, step / _WARM_UP) * (0.55 + 0.45 * float(np.cos(np.pi * step / steps)))


class _Adam:
    """Kingma and Ba 2015, with a rate for each layer."""

    def __init__(self, rows: F32) -> None:
        self.rows = rows
        self._mean, self._square, self._steps = np.zeros_like(rows), np.zeros_like(rows), 0

    def step(self, measured: Measured, rate: float) -> None:
        """Move the rows so that scores move by up to `rate`."""
        gradient = measured.gradient
        assert gradient is not None
        self._steps += 1
        self._mean += (1 - _MOMENTUM) * (gradient - self._mean)
        self._square += (1 - _SQUARES) * (np.square(gradient) - self._square)
        mean = self._mean / (1 - _MOMENTUM**self._steps)
        square = self._square / (1 - _SQUARES**self._steps)
        rates = rate / (self.rows.shape[-1] * measured.inputs)
        change = rates[:, None, None] * mean / (np.sqrt(square) + _TINY)
        self.rows = (self.rows - change).astype(np.float32)
