"""The parts of a layer, forwards and backwards, in the precision of what they are given. Pure.

Arrays are [sequences, tokens, ...]. A `_backward` takes the gradient of the loss with respect to
what the function of its name returned, and returns it for what the function was given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
"""float32 in use; float64 where tests compare gradients."""


def rms_norm(x: Floats, weight: Floats, eps: float) -> tuple[Floats, Floats]:
    """`x` normalized over its last axis and scaled; and 1 / its root mean square, [..., 1]."""
    inverse: Floats = 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(eps))
    return x * inverse * weight, inverse


def rms_norm_backward(gradient: Floats, x: Floats, weight: Floats, inverse: Floats) -> Floats:
    """See rms_norm; `inverse` is the second array that it returned."""
    scaled = gradient * weight
    along = (scaled * x).mean(axis=-1, keepdims=True) * np.square(inverse)
    result: Floats = inverse * (scaled - x * along)
    return result


@dataclass(frozen=True)
class Rope:
    """Rotary positions: pairs of a head's numbers are turned by angles that grow with the position.

    `cosines` and `sines` are [tokens, 1, pairs]. The pairs are neighbours, or with `halves` one of
    the first half and one of the second.
    """

    cosines: Floats
    sines: Floats
    halves: bool

    def turned(self, x: Floats, *, back: bool = False) -> Floats:
        """`x`, [sequences, tokens, heads, head], turned; or turned back, its own gradient."""
        pairs = self.cosines.shape[-1]
        sines = -self.sines if back else self.sines
        first, second = (
            (np.s_[..., :pairs], np.s_[..., pairs : 2 * pairs])
            if self.halves
            else (np.s_[..., 0 : 2 * pairs : 2], np.s_[..., 1 : 2 * pairs : 2])
        )
        result = x.copy()
        result[first] = x[first] * self.cosines - x[second] * sines
        result[second] = x[first] * sines + x[second] * self.cosines
        return result


def attention(q: Floats, k: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Causal attention; what each head reads, shaped like `q`, and the probabilities.

    `q` is [sequences, tokens, heads, head], `k` and `v` have as many heads or fewer, each shared by
    neighbouring heads of `q`.
    """
    grouped, keys, values = _by_head(q, k.shape[2]), _by_head(k), _by_head(v)
    tokens = q.shape[1]
    scores = grouped @ keys.swapaxes(-1, -2) * np.float32(q.shape[-1] ** -0.5)
    scores += np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    read: Floats = scores @ values
    return _by_token(read), scores


def attention_backward(
    gradient: Floats, q: Floats, k: Floats, v: Floats, probabilities: Floats
) -> tuple[Floats, Floats, Floats]:
    """The gradients for `q`, `k` and `v`; see attention."""
    heads = k.shape[2]
    grouped, keys, values = _by_head(q, heads), _by_head(k), _by_head(v)
    read = _by_head(gradient, heads)
    of_values = (probabilities.swapaxes(-1, -2) @ read).sum(axis=2, keepdims=True)
    of_scores = read @ values.swapaxes(-1, -2)
    of_scores -= (of_scores * probabilities).sum(axis=-1, keepdims=True)
    of_scores *= probabilities
    of_scores *= np.float32(q.shape[-1] ** -0.5)
    of_grouped: Floats = of_scores @ keys
    of_keys = (of_scores.swapaxes(-1, -2) @ grouped).sum(axis=2, keepdims=True)
    return _by_token(of_grouped), _by_token(of_keys), _by_token(of_values)


def _by_head(x: Floats, kv_heads: int | None = None) -> Floats:
    """As [sequences, heads of K, heads of Q for each, tokens, head]."""
    sequences, tokens, heads, head = x.shape
    kv_heads = kv_heads or heads
    return x.reshape(sequences, tokens, kv_heads, heads // kv_heads, head).transpose(0, 2, 3, 1, 4)


def _by_token(x: Floats) -> Floats:
    sequences, kv_heads, group, tokens, head = x.shape
    return x.transpose(0, 3, 1, 2, 4).reshape(sequences, tokens, kv_heads * group, head)


@dataclass(frozen=True)
class Expert:
    """A feed-forward network, or a part of one: (silu(x gate) * (x up)) down."""

    gate: Floats
    """[ff, hidden]."""
    up: Floats
    """[ff, hidden]."""
    down: Floats
    """[hidden, ff]."""

    def inner(self, x: Floats) -> tuple[Floats, Floats]:
        """For states [tokens, hidden], x gate and x up, both [tokens, ff]."""
        return x @ self.gate.T, x @ self.up.T

    def output(self, gated: Floats, raised: Floats) -> Floats:
        """The output, [tokens, hidden], for what `inner` returned."""
        activated = sigmoid(gated)
        activated *= gated
        activated *= raised
        output: Floats = activated @ self.down.T
        return output

    def backward(self, gradient: Floats, gated: Floats, raised: Floats) -> Floats:
        """The gradient for the states, given that for the output and what `inner` returned."""
        opening = sigmoid(gated)
        inner = gradient @ self.down
        of_raised = inner * gated * opening
        of_gated = inner * raised * opening * (1 + gated * (1 - opening))
        return of_gated @ self.gate + of_raised @ self.up


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^-x)."""
    with np.errstate(over="ignore"):  # exp of a large negative number: the quotient is 0
        result: Floats = 1 / (1 + np.exp(-x))
    return result


def softmax(x: Floats) -> Floats:
    """Over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def softmax_backward(gradient: Floats, probabilities: Floats) -> Floats:
    """The gradient for the scores, given that for their softmax."""
    mean = (gradient * probabilities).sum(axis=-1, keepdims=True)
    return np.asarray(probabilities * (gradient - mean))
