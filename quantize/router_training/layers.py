"""The layers of a mixture, forwards and backwards, in float32. Pure.

Arrays are [sequences, tokens, ...]. A `_backward` takes the gradient of the loss with respect to
what the function of its name returned, and returns it for what the function was given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from franken_gguf.quantize.blocks.formats import F32


def rms_norm(x: F32, weight: F32, eps: float) -> tuple[F32, F32]:
    """`x` normalized over its last axis and scaled; and 1 / its root mean square, [..., 1]."""
    inverse: F32 = 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(eps))
    return x * inverse * weight, inverse


def rms_norm_backward(gradient: F32, x: F32, weight: F32, inverse: F32) -> F32:
    """See rms_norm; `inverse` is the second array that it returned."""
    scaled = gradient * weight
    along = (scaled * x).mean(axis=-1, keepdims=True) * np.square(inverse)
    result: F32 = inverse * (scaled - x * along)
    return result


@dataclass(frozen=True)
class Rope:
    """Rotary positions: pairs of a head's numbers are turned by angles that grow with the position.

    `cosines` and `sines` are [tokens, 1, pairs]. The pairs are neighbours, or with `halves` one of
    the first half and one of the second.
    """

    cosines: F32
    sines: F32
    halves: bool

    def turned(self, x: F32, *, back: bool = False) -> F32:
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


def attention(q: F32, k: F32, v: F32) -> tuple[F32, F32]:
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
    read: F32 = scores @ values
    return _by_token(read), scores


def attention_backward(
    gradient: F32, q: F32, k: F32, v: F32, probabilities: F32
) -> tuple[F32, F32, F32]:
    """The gradients for `q`, `k` and `v`; see attention."""
    heads = k.shape[2]
    grouped, keys, values = _by_head(q, heads), _by_head(k), _by_head(v)
    read = _by_head(gradient, heads)
    of_values = (probabilities.swapaxes(-1, -2) @ read).sum(axis=2, keepdims=True)
    of_scores = read @ values.swapaxes(-1, -2)
    of_scores -= (of_scores * probabilities).sum(axis=-1, keepdims=True)
    of_scores *= probabilities
    of_scores *= np.float32(q.shape[-1] ** -0.5)
    of_grouped: F32 = of_scores @ keys
    of_keys = (of_scores.swapaxes(-1, -2) @ grouped).sum(axis=2, keepdims=True)
    return _by_token(of_grouped), _by_token(of_keys), _by_token(of_values)


def _by_head(x: F32, kv_heads: int | None = None) -> F32:
    """As [sequences, heads of K, heads of Q for each, tokens, head]."""
    sequences, tokens, heads, head = x.shape
    kv_heads = kv_heads or heads
    return x.reshape(sequences, tokens, kv_heads, heads // kv_heads, head).transpose(0, 2, 3, 1, 4)


def _by_token(x: F32) -> F32:
    sequences, kv_heads, group, tokens, head = x.shape
    return x.transpose(0, 3, 1, 2, 4).reshape(sequences, tokens, kv_heads * group, head)


@dataclass(frozen=True)
class Expert:
    """A feed-forward network, or a part of one: (silu(x gate) * (x up)) down."""

    gate: F32
    """[ff, hidden]."""
    up: F32
    """[ff, hidden]."""
    down: F32
    """[hidden, ff]."""

    def inner(self, x: F32) -> tuple[F32, F32]:
        """For states [tokens, hidden], x gate and x up, both [tokens, ff]."""
        return x @ self.gate.T, x @ self.up.T

    def output(self, gated: F32, raised: F32) -> F32:
        """The output, [tokens, hidden], for what `inner` returned."""
        activated = sigmoid(gated)
        activated *= gated
        activated *= raised
        output: F32 = activated @ self.down.T
        return output

    def backward(self, gradient: F32, gated: F32, raised: F32) -> F32:
        """The gradient for the states, given that for the output and what `inner` returned."""
        opening = sigmoid(gated)
        inner = gradient @ self.down
        of_raised = inner * gated * opening
        of_gated = inner * raised * opening * (1 + gated * (1 - opening))
        return of_gated @ self.gate + of_raised @ self.up


def sigmoid(x: F32) -> F32:
    """1 / (1 + e^-x)."""
    with np.errstate(over="ignore"):  # exp of a large negative number: the quotient is 0
        result: F32 = 1 / (1 + np.exp(-x))
    return result


def softmax(x: F32) -> F32:
    """Over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def softmax_backward(gradient: F32, probabilities: F32) -> F32:
    """The gradient for the scores, given that for their softmax."""
    mean = (gradient * probabilities).sum(axis=-1, keepdims=True)
    return np.asarray(probabilities * (gradient - mean))
