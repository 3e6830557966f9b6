"""One layer of a mixture over given states, forwards, and backwards by computing it again."""

from __future__ import annotations

import numpy as np

from .layers import (
    Floats,
    Rope,
    attention,
    attention_backward,
    rms_norm,
    rms_norm_backward,
    sigmoid,
    softmax,
    softmax_backward,
)
from .mixture import Mixture


class Attention:
    """The first half of a layer: `output` is the states plus what the attention adds to them."""

    def __init__(self, mixture: Mixture, layer: int, rope: Rope, states: Floats) -> None:
        """`states` are [sequences, tokens, hidden]."""
        self._mixture, self._layer, self._rope, self._states = mixture, layer, rope, states
        x, self._inverse = rms_norm(states, self._weight("attn_norm"), mixture.eps)
        self._q, self._k, v = (self._projected(x, name) for name in "qkv")
        q, k = rope.turned(self._normed("q", self._q)), rope.turned(self._normed("k", self._k))
        read, probabilities = attention(q, k, v)
        self._turned = q, k, v, probabilities
        self._shape = read.shape
        self.output = states + _flat(read) @ self._weight("attn_output").T

    def backward(self, gradient: Floats) -> Floats:
        """The gradient for the states, given that for `output`."""
        of_read = (gradient @ self._weight("attn_output")).reshape(self._shape)
        of_q, of_k, of_v = attention_backward(of_read, *self._turned)
        of_q = self._normed_backward("q", self._rope.turned(of_q, back=True), self._q)
        of_k = self._normed_backward("k", self._rope.turned(of_k, back=True), self._k)
        of_x = _flat(of_q) @ self._weight("attn_q")
        of_x += _flat(of_k) @ self._weight("attn_k")
        of_x += _flat(of_v) @ self._weight("attn_v")
        norm = self._weight("attn_norm")
        return gradient + rms_norm_backward(of_x, self._states, norm, self._inverse)

    def _projected(self, x: Floats, name: str) -> Floats:
        heads = self._mixture.heads if name == "q" else self._mixture.kv_heads
        flat = x @ self._weight(f"attn_{name}").T
        bias = self._mixture.optional(f"blk.{self._layer}.attn_{name}.bias")
        if bias is not None:
            flat += bias
        return flat.reshape(*x.shape[:2], heads, -1)

    def _normed(self, name: str, x: Floats) -> Floats:
        """The heads of Q or K; some models normalize them."""
        weight = self._mixture.optional(f"blk.{self._layer}.attn_{name}_norm.weight")
        return x if weight is None else rms_norm(x, weight, self._mixture.eps)[0]

    def _normed_backward(self, name: str, gradient: Floats, x: Floats) -> Floats:
        weight = self._mixture.optional(f"blk.{self._layer}.attn_{name}_norm.weight")
        if weight is None:
            return gradient
        _, inverse = rms_norm(x, weight, self._mixture.eps)
        return rms_norm_backward(gradient, x, weight, inverse)

    def _weight(self, name: str) -> Floats:
        return self._mixture.matrix(f"blk.{self._layer}.{name}.weight")


class FeedForward:
    """The second half of a layer: the router and the experts."""

    def __init__(self, mixture: Mixture, layer: int, rows: Floats, states: Floats) -> None:
        """`states` are what Attention put out, `rows` the router's, [experts, hidden]."""
        self._mixture, self._layer, self._rows, self._states = mixture, layer, rows, states
        self._norm = mixture.ffn_norm(layer)
        x, self._inverse = rms_norm(states, self._norm, mixture.eps)
        self.x = x.reshape(-1, x.shape[-1])
        """The router's and the experts' input, [tokens, hidden]."""
        self._scores = self.x @ rows.T
        self.weights = self._routed()
        """Each expert's weight in each token, [tokens, experts]; 0 where it does not work."""

    def output(self) -> Floats:
        """The states plus what the experts add to them."""
        added = self._shared()
        for number in range(self._mixture.experts):
            own = self.weights[:, number].nonzero()[0]
            if len(own):
                expert = self._mixture.expert(self._layer, number)
                inner = expert.inner(self.x[own])
                added[own] += self.weights[own, number, None] * expert.output(*inner)
        return self._states + added.reshape(self._states.shape)

    def backward(self, gradient: Floats, favours: Floats) -> tuple[Floats, Floats]:
        """The gradients for the states and for the rows (see loss.py), given that for `output`."""
        of_output = gradient.reshape(self.x.shape)
        of_x = self._shared_backward(of_output)
        of_weights = np.empty_like(self.weights)
        for number in range(self._mixture.experts):
            expert = self._mixture.expert(self._layer, number)
            gated, raised = expert.inner(self.x)
            output = expert.output(gated, raised)
            of_weights[:, number] = np.einsum("ij,ij->i", output, of_output)
            own = self.weights[:, number].nonzero()[0]
            if len(own):
                of_own = self.weights[own, number, None] * of_output[own]
                of_x[own] += expert.backward(of_own, gated[own], raised[own])
        probabilities = softmax(self._scores)
        wanted = of_weights - favours / len(self.x)
        of_rows = softmax_backward(wanted, probabilities).T @ self.x
        of_x += self._scores_backward(of_weights, probabilities) @ self._rows
        of_x = of_x.reshape(gradient.shape)
        return gradient + rms_norm_backward(of_x, self._states, self._norm, self._inverse), of_rows

    def _routed(self) -> Floats:
        order = np.argsort(-self._scores, axis=-1, kind="stable")[:, : self._mixture.used]
        chosen = np.zeros(self._scores.shape, np.bool_)
        np.put_along_axis(chosen, order, True, axis=-1)
        if not self._mixture.normalized:
            return np.where(chosen, softmax(self._scores), 0)
        return softmax(np.where(chosen, self._scores, np.float32(-np.inf)))

    def _scores_backward(self, of_weights: Floats, probabilities: Floats) -> Floats:
        """The gradient for the scores, through the weights of the experts that were chosen."""
        if self._mixture.normalized:
            return softmax_backward(of_weights, self.weights)
        return softmax_backward(np.where(self.weights > 0, of_weights, 0), probabilities)

    def _shared(self) -> Floats:
        """The output of the expert that works on every token; zeros if there is none."""
        shared = self._mixture.shared_expert(self._layer)
        if shared is None:
            return np.zeros_like(self.x)
        expert, gate = shared
        output: Floats = sigmoid(self.x @ gate.T) * expert.output(*expert.inner(self.x))
        return output

    def _shared_backward(self, gradient: Floats) -> Floats:
        shared = self._mixture.shared_expert(self._layer)
        if shared is None:
            return np.zeros_like(self.x)
        expert, gate = shared
        inner, opening = expert.inner(self.x), sigmoid(self.x @ gate.T)
        of_opening = np.einsum("ij,ij->i", expert.output(*inner), gradient)[:, None]
        of_gate = of_opening * opening * (1 - opening) * gate
        of_x: Floats = expert.backward(opening * gradient, *inner) + of_gate
        return of_x


def _flat(heads: Floats) -> Floats:
    """[sequences, tokens, heads, head] as [sequences, tokens, heads * head]."""
    return heads.reshape(*heads.shape[:2], -1)
