"""Trains routers: Adam on the exact gradient of a mixture's loss, judged on text that is held out.

An expert that has had few tokens lately is favoured, so that none of them is left out. The steps
are measured in scores, not weights: a layer's rate is divided by how large the router's inputs are
there, so that models of any size and scale learn at the same speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.errors import CheckpointError, OutputError

from .loss import Measured, measure
from .mixture import Mixture
from .passages import Passages, Split
from .training_state import State, first_state, save

SEQUENCES = 4
"""Passages in a step."""
DEFAULT_STEPS = 24
_RATE, _WARM_UP = 0.45, 5
_MOMENTUM, _SQUARES, _TINY = 0.9, 0.98, 1e-8
_LEAST_LOAD, _FAVOUR = 0.5, 0.02
"""An expert with less than this part of an even share is favoured, by at most this many nats."""
_SAVE_SECONDS = 20.0


Report = Callable[[str, int, int, float], None]
"""Gets what is done, such as a step, how often it is done, of how many times, and the last loss."""


@dataclass(frozen=True)
class Trained:
    """Rows that were trained, and what the mixture does on text that is held out."""

    rows: F32
    before: Sequence[Measured]
    """With the rows from before, for each text."""
    after: Sequence[Measured]
    """With the trained rows."""

    @property
    def gain(self) -> float:
        """By how much the mean loss has fallen, in nats for a token."""
        before, after = (np.concatenate([m.losses for m in of]) for of in (self.before, self.after))
        return float(before.mean() - after.mean())


def begin(
    mixture: Mixture, rows: F32, held_out: Sequence[Passages], report: Report = lambda *_: None
) -> State:
    """The state before the first step. Raises CheckpointError for a broken model."""
    return first_state(rows, _on(mixture, rows, held_out, "measuring the router: text", report))


def train(
    mixture: Mixture,
    split: Split,
    steps: int,
    state: State,
    file: Path,
    report: Report = lambda *_: None,
) -> Trained:
    """Train from `state` on, to `steps` steps of SEQUENCES passages each, which are used in turn.

    The state is saved in `file` from time to time, after the last step, and by whatever ends this
    early. Raises CheckpointError for a broken model, OutputError.
    """
    saved = time.monotonic()
    try:
        while state.done < steps:
            state, loss = _step(mixture, state, _batch(split.training, state.done), steps)
            report("training the router: step", state.done, steps, loss)
            if time.monotonic() - saved > _SAVE_SECONDS:
                save(file, state)
                saved = time.monotonic()
        save(file, state)
        work = "measuring the trained router: text"
        after = _on(mixture, state.rows, split.held_out, work, report)
    except BaseException:
        with suppress(OutputError):
            save(file, state)
        raise
    return Trained(state.rows, state.before, after)


def _step(mixture: Mixture, state: State, tokens: Passages, steps: int) -> tuple[State, float]:
    """The state after one more of `steps` steps, and the loss in it."""
    lack = 1 - state.loads * mixture.experts / mixture.used / _LEAST_LOAD
    favours = (_FAVOUR * np.maximum(lack, 0)).astype(np.float32)
    measured = measure(mixture, state.rows, tokens, with_gradient=True, favours=favours)
    _check(mixture, measured)
    rate = _RATE * _schedule(state.done + 1, steps)
    return _moved(state, measured, rate), float(measured.losses.mean())


def _on(
    mixture: Mixture, rows: F32, texts: Sequence[Passages], work: str, report: Report
) -> list[Measured]:
    found: list[Measured] = []
    for text in texts:
        found.append(measure(mixture, rows, text))
        _check(mixture, found[-1])
        report(work, len(found), len(texts), float(found[-1].losses.mean()))
    return found


def _check(mixture: Mixture, measured: Measured) -> None:
    sound = [measured.losses, measured.inputs]
    if measured.gradient is not None:
        sound.append(measured.gradient)
    # States that overflow can become zeros.
    if not all(np.isfinite(numbers).all() for numbers in sound) or not measured.inputs.all():
        raise CheckpointError(
            f"{mixture.path}: computes NaN, Inf or zeros on the text; the model is broken, "
            "download or convert it again"
        )


def _batch(passages: Passages, step: int) -> Passages:
    first = step * SEQUENCES
    return passages[np.arange(first, first + SEQUENCES) % len(passages)]


def _schedule(step: int, steps: int) -> float:
    """The rate's share at a step: rising to 1, then along a cosine to 0.1."""
    return min(1, step / _WARM_UP) * (0.55 + 0.45 * float(np.cos(np.pi * step / steps)))


def _moved(state: State, measured: Measured, rate: float) -> State:
    """After a step of Adam (Kingma and Ba 2015) that moves scores by up to `rate`."""
    gradient, done = measured.gradient, state.done + 1
    assert gradient is not None
    mean = state.mean + (1 - _MOMENTUM) * (gradient - state.mean)
    square = state.square + (1 - _SQUARES) * (np.square(gradient) - state.square)
    direction = mean / (1 - _MOMENTUM**done)
    direction /= np.sqrt(square / (1 - _SQUARES**done)) + _TINY
    rates = rate / (state.rows.shape[-1] * measured.inputs)
    rows = (state.rows - rates[:, None, None] * direction).astype(np.float32)
    loads = _MOMENTUM * state.loads + (1 - _MOMENTUM) * measured.loads
    return State(rows, mean, square, loads.astype(np.float32), done, state.before)
