"""The running model with some weights replaced, compared with itself as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.model_weights import ModelWeights

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

_FIRST = 4
"""Positions at the start of a passage that are not scored: they predict hardly anything."""
_ROWS = 16
"""Positions compared at a time, few enough for their temporary arrays to stay in the cache."""


class DegradedModel:
    """A model whose weights can be replaced in memory.

    `passages` are token ids, each of at most 512 and more than 4; the log-probabilities of the
    whole vocabulary at every scored position are kept in memory.
    """

    def __init__(
        self, engine: Engine, weights: ModelWeights, passages: Sequence[Sequence[int]]
    ) -> None:
        self._engine, self._weights, self._passages = engine, weights, passages
        self._baseline = [_log_softmax(logits) for logits in self._logits()]

    def divergence(self) -> list[F64]:
        """KL divergence from the untouched model at each scored position, by passage, in nats."""
        pairs = zip(self._baseline, self._logits(), strict=True)
        return [_kl_divergence(base, logits) for base, logits in pairs]

    def each_degraded(self, tensors: Iterable[tuple[str, U8]]) -> Iterator[tuple[str, float]]:
        """With each tensor replaced alone: its name, and the mean KL divergence.

        A tensor that the model does not use costs nothing.
        """
        for name, data in tensors:
            if name not in self._weights:
                yield name, 0.0
                continue
            original = self._weights.read(name)
            try:
                self._weights.write(name, data)
                yield name, float(np.concatenate(self.divergence()).mean())
            finally:
                self._weights.write(name, original)

    def replace(self, tensors: Iterable[tuple[str, U8]]) -> None:
        """Replace weights for good."""
        for name, data in tensors:
            if name in self._weights:
                self._weights.write(name, data)

    def _logits(self) -> Iterator[F32]:
        """For each passage, (scored positions, vocabulary); valid until the next."""
        for passage in self._passages:
            self._engine.forget_from(0)
            yield self._engine.logits(passage, _FIRST)


def _log_softmax(logits: F32) -> F32:
    result = np.empty_like(logits)
    for start in range(0, len(logits), _ROWS):
        block = logits[start : start + _ROWS]
        result[start : start + _ROWS] = block - _log_sum_exp(block)
    return result


def _kl_divergence(base: F32, logits: F32) -> F64:
    """Of softmax(logits) from exp(base), for each row."""
    found = np.empty(len(base))
    for start in range(0, len(base), _ROWS):
        rows = slice(start, start + _ROWS)
        difference = base[rows] - (logits[rows] - _log_sum_exp(logits[rows]))
        found[rows] = np.einsum("ij,ij->i", np.exp(base[rows]), difference, dtype=np.float64)
    return found


def _log_sum_exp(block: F32) -> F32:
    highest: F32 = block.max(axis=1, keepdims=True)
    total: F32 = highest + np.log(np.exp(block - highest).sum(axis=1, keepdims=True))
    return total
