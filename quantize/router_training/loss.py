"""A mixture's loss on token sequences, and its gradient for the routers' rows. Pure numpy.

Only the experts that a router chooses work on a token, but in the gradient every expert counts: as
if the output were the sum of all experts' outputs, each with its softmax probability. So a row also
learns of the tokens that its expert did not get and would have done well with ("dense backward").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .layers import Floats, rms_norm, rms_norm_backward
from .mixture import Mixture
from .mixture_layer import Attention, FeedForward

_LOGITS = 128
"""Tokens whose logits are computed at a time."""


@dataclass(frozen=True)
class Measured:
    """What a mixture does with token sequences."""

    losses: Floats
    """-log p of every token but the first, in nats: [sequences, tokens - 1]."""
    loads: Floats
    """Each expert's share of the tokens: [layers, experts]."""
    inputs: Floats
    """The mean size of the numbers that each layer's router reads: [layers]."""
    gradient: Floats | None = None
    """Of the mean loss for the routers' rows: [layers, experts, hidden]."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def measure(
    mixture: Mixture,
    rows: Floats,
    tokens: NDArray[np.int64],
    *,
    with_gradient: bool = False,
    favours: Floats | None = None,
) -> Measured:
    """Run the mixture, with `rows` as its routers, over `tokens` [sequences, tokens].

    `favours`, [layers, experts] in nats, lower the loss in the gradient by as much for each token
    that an expert of a layer gets, so that the rows attract tokens to it. A broken model's losses
    and gradient are NaN or Inf, without a warning.
    """
    rope = mixture.rope(tokens.shape[1])
    states, entering, loads, inputs = mixture.embeddings(tokens), [], [], []
    for layer in range(mixture.layers):
        entering.append(states)
        attention = Attention(mixture, layer, rope, states)
        experts = FeedForward(mixture, layer, rows[layer], attention.output)
        states = experts.output()
        loads.append((experts.weights > 0).mean(axis=0))
        inputs.append(np.abs(experts.x).mean())
    losses, gradient = _output(mixture, states, tokens, with_gradient=with_gradient)
    measured = Measured(losses, np.array(loads), np.array(inputs))
    if not with_gradient:
        return measured
    of_rows = np.empty_like(rows)
    favours = np.zeros_like(rows[..., 0]) if favours is None else favours
    for layer in reversed(range(mixture.layers)):
        attention = Attention(mixture, layer, rope, entering.pop())
        experts = FeedForward(mixture, layer, rows[layer], attention.output)
        gradient, of_rows[layer] = experts.backward(gradient, favours[layer])
        gradient = attention.backward(gradient)
    return replace(measured, gradient=of_rows)


def _output(
    mixture: Mixture, states: Floats, tokens: NDArray[np.int64], *, with_gradient: bool
) -> tuple[Floats, Floats]:
    """The losses, and the gradient of their mean for `states` (zeros unless `with_gradient`)."""
    weight, matrix = mixture.matrix("output_norm.weight"), mixture.output()
    normed, inverse = rms_norm(states, weight, mixture.eps)
    gradient = np.zeros_like(states)
    losses = np.empty(tokens[:, 1:].shape, states.dtype)
    for part in _parts(losses.shape):
        logits = normed[part] @ matrix.T
        logits -= logits.max(axis=-1, keepdims=True)
        targets = (np.arange(len(logits)), tokens[:, 1:][part])
        losses[part] = -logits[targets]
        np.exp(logits, out=logits)
        total = logits.sum(axis=-1, keepdims=True)
        losses[part] += np.log(total[:, 0])
        if with_gradient:
            logits /= total
            logits[targets] -= 1
            gradient[part] = logits @ matrix / losses.size
    return losses, rms_norm_backward(gradient, states, weight, inverse)


def _parts(shape: tuple[int, ...]) -> Iterator[tuple[int, slice]]:
    for sequence in range(shape[0]):
        for start in range(0, shape[1], _LOGITS):
            yield sequence, slice(start, min(start + _LOGITS, shape[1]))
