"""Metrics that compare two models: perplexity, KL divergence, leans, routing. Pure numpy.

Figures over a text are defined as in llama-perplexity (tools/perplexity/perplexity.cpp), so that
they can be compared with its output. All logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import exp, fsum, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Z95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile: a 95 % interval is ± this many standard errors."""


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities along the last axis, in the input's precision."""
    shifted: Floats = logits - logits.max(axis=-1, keepdims=True)
    total: Floats = np.exp(shifted).sum(axis=-1, keepdims=True)
    shifted -= np.log(total)
    return shifted


def mean(samples: Floats) -> Estimate:
    """The mean of (n,) samples; error sqrt((E[x^2] - E[x]^2) / (n - 1)), 0 for a single one."""
    values = np.asarray(samples, np.float64)
    error = values.std() / sqrt(len(values) - 1) if len(values) > 1 else 0.0
    return Estimate(float(values.mean()), float(error))


def perplexity(nll: Floats) -> Estimate:
    """exp(mean NLL), with its error by propagation, from (n,) negative log-likelihoods."""
    average = mean(nll)
    ppl = exp(average.value)
    return Estimate(ppl, ppl * average.error)


def kl_divergence(base: Floats, other: Floats) -> Floats:
    """sum of p_base (ln p_base - ln p_other) along the last axis, from log-probabilities.

    Tokens that the base gives no probability (-inf) add nothing.
    """
    p = np.exp(base)
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (base - other), 0.0)
    divergence: Floats = terms.sum(axis=-1)
    return divergence


@dataclass(frozen=True)
class TextComparison:
    """A model compared with the baseline over the scored positions of a text."""

    ln_ratio: Estimate
    """mean(NLL - baseline's NLL): ln of the ratio of the two perplexities."""
    correlation: float
    """Pearson's, of the two NLLs; 1 if either is constant."""
    kld: Estimate
    kld_percentiles: dict[str, float]
    dp: Estimate
    """Probability of the true token minus the baseline's, -1 to 1."""
    dp_rms: float
    same_top: Interval
    """Share of positions at which both have the same most likely token."""


_PERCENTILES = (0, 0.1, 1, 5, 10, 50, 90, 95, 99, 99.9, 100)


def compare_text(
    nll: Floats, base_nll: Floats, kld: Floats, same_top: NDArray[np.bool_]
) -> TextComparison:
    """Compare two models by (n,) arrays: their NLLs, KL divergences, and equal top tokens."""
    difference = np.asarray(nll, np.float64) - np.asarray(base_nll, np.float64)
    dp = np.exp(-np.asarray(nll, np.float64)) - np.exp(-np.asarray(base_nll, np.float64))
    spread = float(np.std(nll) * np.std(base_nll))
    covariance = float(((nll - np.mean(nll)) * (base_nll - np.mean(base_nll))).mean())
    return TextComparison(
        # The same as sqrt(se_q^2 + se_b^2 - 2 cov), without its cancellation.
        ln_ratio=mean(difference),
        correlation=covariance / spread if spread else 1.0,
        kld=mean(kld),
        kld_percentiles={f"{q:g}": float(np.percentile(kld, q)) for q in _PERCENTILES},
        dp=mean(dp),
        dp_rms=float(np.sqrt((dp**2).mean())),
        same_top=wilson(int(same_top.sum()), len(same_top)),
    )


def wilson(successes: int, trials: int) -> Interval:
    """The share of successes with Wilson's 95 % score interval, which stays within 0 and 1."""
    if not trials:
        return Interval(0.0, 0.0, 1.0)
    share, square = successes / trials, Z95 * Z95 / trials
    centre = (share + square / 2) / (1 + square)
    half = Z95 * sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(share, low, high)


def log_sum(values: Sequence[float]) -> float:
    """ln of the sum of exp(values)."""
    return float(np.logaddexp.reduce(np.asarray(values, np.float64)))


def lean(first: Sequence[Floats], second: Sequence[Floats], *, per_token: bool = False) -> float:
    """Log-odds of a first set of answers against a second: above 0 towards the first.

    Each answer is an array of its tokens' log-probabilities. The probability of a set is the sum
    over its answers; with `per_token` it is the mean of their geometric means over tokens, which
    corrects for the length of answers and the size of sets.
    """

    def weight(answers: Sequence[Floats]) -> float:
        if per_token:
            return log_sum([float(one.mean()) for one in answers]) - float(np.log(len(answers)))
        return log_sum([float(one.sum()) for one in answers])

    return weight(first) - weight(second)


def bootstrap(samples: Floats, *, rounds: int = 10_000, seed: int = 0) -> Interval:
    """The mean of (n,) samples with its 95 % percentile bootstrap interval.

    For a paired comparison pass the differences. The same seed gives the same interval.
    """
    values = np.asarray(samples, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(values), (rounds, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class LayerRouting:
    """One layer's routing, and its agreement with a baseline's over the same tokens if compared."""

    load: tuple[float, ...]
    """Each expert's share of the choices; sums to 1."""
    same_experts: float | None = None
    """Share of tokens for which both choose the same set of experts."""
    jaccard: float | None = None
    """Jaccard index of the two sets of experts, averaged over tokens."""
    kld: float | None = None
    """Mean KL divergence of the router's probabilities from the baseline's."""

    @property
    def load_entropy(self) -> float:
        """`normalized_entropy` of the load."""
        return normalized_entropy(self.load)


def expert_load(chosen: Ints, n_expert: int) -> tuple[float, ...]:
    """Each expert's share of the choices in a (tokens, n_used) array."""
    counts = np.bincount(chosen.ravel(), minlength=n_expert)
    return tuple(float(count) for count in counts / counts.sum())


def normalized_entropy(shares: Sequence[float]) -> float:
    """Shannon entropy of n shares that sum to 1, divided by its maximum ln n: 0 to 1.

    1 if all shares are equal, and by definition if there is only one; 0 if one of several has
    everything. A load has at least ln k / ln n if the router chooses k of n experts for each
    token: exactly that if they are always the same k.
    """
    if len(shares) < 2:
        return 1.0
    entropy = -fsum(share * log(share) for share in shares if share > 0)
    return min(1.0, max(0.0, entropy / log(len(shares))))


def compare_routing(
    chosen: Ints, probs: Floats, base_chosen: Ints, base_probs: Floats
) -> LayerRouting:
    """Compare two routers' (tokens, n_used) distinct experts and (tokens, n_expert) weights."""
    n_expert = probs.shape[1]
    ours, theirs = _members(chosen, n_expert), _members(base_chosen, n_expert)
    either = (ours | theirs).sum(axis=1)
    with np.errstate(divide="ignore"):
        log_base, log_ours = np.log(distribution(base_probs)), np.log(distribution(probs))
    return LayerRouting(
        same_experts=float((ours == theirs).all(axis=1).mean()),
        jaccard=float(((ours & theirs).sum(axis=1) / either).mean()),
        kld=float(kl_divergence(log_base, log_ours).mean()),
        load=expert_load(chosen, n_expert),
    )


def distribution(weights: Floats) -> Floats:
    """Router weights as probabilities: each row divided by its sum.

    Rows with negative weights are logits, as some routers use them, and get a softmax first.
    """
    values = np.asarray(weights, np.float64)
    if (values < 0).any():
        values = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: Floats = values / values.sum(axis=-1, keepdims=True)
    return shares


def _members(chosen: Ints, n_expert: int) -> NDArray[np.bool_]:
    found = np.zeros((len(chosen), n_expert), np.bool_)
    np.put_along_axis(found, chosen, True, axis=1)
    return found


def distinct_n(tokens: Sequence[Hashable], n: int) -> float:
    """Distinct n-grams divided by all n-grams (Li et al. 2016); 0 without n-grams."""
    grams = _ngrams(tokens, n)
    return len(set(grams)) / len(grams) if grams else 0.0


def repetition(texts: Sequence[Sequence[Hashable]], n: int = 4) -> float:
    """Share of n-grams that occurred earlier in the same text; 0 without n-grams."""
    grams = [_ngrams(text, n) for text in texts]
    total = sum(map(len, grams))
    return 1 - sum(len(set(some)) for some in grams) / total if total else 0.0


def vocabulary_size(tokens: Sequence[Hashable], window: int = 1000) -> float:
    """Distinct tokens per `window`: the mean over consecutive whole windows.

    With fewer tokens than `window`, their count is scaled by the square root of the ratio
    (Guiraud's index: the number of types grows roughly with the root of the number of tokens).
    """
    if len(tokens) < window:
        return len(set(tokens)) * sqrt(window / len(tokens)) if tokens else 0.0
    starts = range(0, len(tokens) - window + 1, window)
    return sum(len(set(tokens[start : start + window])) for start in starts) / len(starts)


def _ngrams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
