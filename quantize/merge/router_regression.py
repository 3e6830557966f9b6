"""Router rows fitted to what prompts leave before the router: multinomial regression. Pure.

With x the states that a layer's router sees at the tokens of all prompts, and y the expert whose
prompt each belongs to, the rows W minimise

    mean of  -log softmax(W x)[y]  +  penalty / 2 * s * |W|^2,      W = A' X / s

each expert's tokens together weighing as much as any other's; s is the mean square length of x. A,
one number for each token and expert, is found by Nesterov's accelerated gradient steps on the
tokens' products K = X X' / s: there are fewer tokens than columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32

_PENALTY = 1e-3
_STEPS = 300


def fitted_rows(states: F32, owners: NDArray[np.int64], experts: int) -> F32:
    """The rows [experts, hidden] for `states` [tokens, hidden] of the experts `owners` [tokens].

    Every expert owns a token.
    """
    x = states.astype(np.float64)
    products = x @ x.T
    scale = float(np.trace(products)) / len(x) or 1.0
    products /= scale
    wanted = np.eye(experts)[owners]
    weights = (1 / wanted.sum(axis=0))[owners][:, None] / experts
    # The gradient's Lipschitz constant: softmax's curvature is at most a half.
    steepest = float(np.linalg.eigvalsh(products)[-1])
    step = 1 / (steepest * float(weights.max()) / 2 + _PENALTY)
    factors = ahead = np.zeros_like(wanted)
    for number in range(_STEPS):
        gradient = weights * (_softmax(products @ ahead) - wanted) + _PENALTY * ahead
        moved = ahead - step * gradient
        ahead = moved + number / (number + 3) * (moved - factors)
        factors = moved
    return np.asarray(factors.T @ x / scale, np.float32)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
