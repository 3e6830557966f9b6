r"""A baseline's log-probabilities on disk in 16 bits, and other models' logits compared with them.

A row of the file, one per scored position:

    ┌─────────────┬───────────┬──────────────────────────────────────────┐
    │ min float32 │ step f32  │ level uint16, one for each token         │
    └─────────────┴───────────┴──────────────────────────────────────────┘
    log-probability = min + step · (level - 1)

This is close to llama-perplexity's format (log_softmax in tools/perplexity/perplexity.cpp). Levels
cover 16 nats below the most likely token, so the error is at most step / 2 ≤ 0.000123. Tokens
further below have level 0 and count as impossible: each has less than 1.2e-7 times the probability
of the most likely token.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.engine.backend import EngineError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_SPAN = 16.0
_LEVELS = 65534
_ROWS = 16
"""Rows processed at a time, few enough for their temporary arrays to stay in the CPU cache."""


class Scores(NamedTuple):
    """Arrays of (n,) scored positions."""

    nll: F64
    kld: F64
    """KL divergence from the baseline; zeros for the baseline itself."""
    same_top: NDArray[np.bool_]
    """Whether the most likely token is the baseline's."""


def row_dtype(n_vocab: int) -> np.dtype[np.void]:
    """The layout of a row, little-endian."""
    return np.dtype([("min", "<f4"), ("step", "<f4"), ("levels", "<u2", (n_vocab,))])


def encode(log_probs: F32) -> NDArray[np.void]:
    """Rows for (n, vocabulary) log-probabilities."""
    rows = np.empty(len(log_probs), row_dtype(log_probs.shape[1]))
    highest = log_probs.max(axis=1)
    lowest = np.maximum(log_probs.min(axis=1), highest - np.float32(_SPAN))
    rows["min"] = lowest
    rows["step"] = step = (highest - lowest) / np.float32(_LEVELS)
    scaled = log_probs - lowest[:, None]
    scaled /= np.where(step > 0, step, 1)[:, None]
    scaled += 1
    rows["levels"] = np.clip(np.rint(scaled), 0, _LEVELS + 1)
    return rows


def decode(rows: NDArray[np.void]) -> F32:
    """(n, vocabulary) log-probabilities; -inf for level 0."""
    levels = rows["levels"].astype(np.float32)
    log_probs: F32 = (levels - 1) * rows["step"][:, None] + rows["min"][:, None]
    log_probs[levels == 0] = -np.inf
    return log_probs


def write_scores(logits: F32, true: list[int], file: BufferedWriter) -> Scores:
    """Score the baseline itself and append its rows to `file`. Raises OSError."""
    nll = np.empty(len(logits))
    for part in _parts(len(logits)):
        block = logits[part]
        log_probs = block - _log_sum_exp(block)
        nll[part] = -log_probs[np.arange(len(block)), true[part]]
        file.write(encode(log_probs).tobytes())
    return Scores(nll, np.zeros(len(nll)), np.ones(len(nll), np.bool_))


def read_scores(logits: F32, true: list[int], file: BufferedReader) -> Scores:
    """Score a model against the next rows of `file`. Raises EngineError if it ends, OSError."""
    nll, kld = np.empty(len(logits)), np.empty(len(logits))
    same_top = np.empty(len(logits), np.bool_)
    for part in _parts(len(logits)):
        block = logits[part]
        stored = read_rows(file, len(block), block.shape[1])
        total = _log_sum_exp(block)
        nll[part] = total[:, 0] - block[np.arange(len(block)), true[part]]
        base = stored["levels"].astype(np.float32)
        same_top[part] = block.argmax(axis=1) == base.argmax(axis=1)
        kld[part] = _kl_divergence(base, stored, block, total[:, 0])
    return Scores(nll, kld, same_top)


def _kl_divergence(base: F32, stored: NDArray[np.void], logits: F32, total: F32) -> F64:
    """Sum of p (ln p - logits + total) over levels above 0. Overwrites `base`, the levels."""
    unlikely = base == 0
    base *= stored["step"][:, None]
    base += (stored["min"] - stored["step"])[:, None]
    p = np.exp(base)
    p[unlikely] = 0
    base -= logits
    divergence: F64 = np.einsum("ij,ij->i", p, base, dtype=np.float64)
    divergence += total * p.sum(axis=1, dtype=np.float64)
    return divergence


def _log_sum_exp(block: F32) -> F32:
    """(n, 1) from (n, vocabulary)."""
    highest: F32 = block.max(axis=1, keepdims=True)
    sums: F32 = np.exp(block - highest).sum(axis=1, keepdims=True)
    total: F32 = highest + np.log(sums)
    return total


def read_rows(file: BufferedReader, count: int, n_vocab: int) -> NDArray[np.void]:
    """The next `count` rows. Raises EngineError if the file ends before, OSError."""
    dtype = row_dtype(n_vocab)
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise EngineError(
            f"{file.name}: the baseline's scores are incomplete; delete the file and run again"
        )
    return np.frombuffer(data, dtype)


def row_at(path: Path, place: int, n_vocab: int) -> F32:
    """The log-probabilities of one row. Raises EngineError, OSError."""
    with path.open("rb") as file:
        file.seek(place * row_dtype(n_vocab).itemsize)
        log_probs: F32 = decode(read_rows(file, 1, n_vocab))[0]
    return log_probs


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))
