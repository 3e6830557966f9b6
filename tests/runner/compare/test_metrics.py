"""metrics: figures whose truth is known exactly, by hand or by a slower formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.results.metrics import (
    Estimate,
    Interval,
    bootstrap,
    compare_routing,
    compare_text,
    distinct_n,
    distribution,
    expert_load,
    kl_divergence,
    lean,
    log_softmax,
    mean,
    normalized_entropy,
    perplexity,
    repetition,
    vocabulary_size,
    wilson,
)

logits = st.lists(st.floats(-50, 50), min_size=2, max_size=9)


def test_a_model_that_guesses_among_eight_has_a_perplexity_of_eight() -> None:
    nll = -log_softmax(np.zeros((5, 8)))[:, 3]
    assert perplexity(nll).value == pytest.approx(8, rel=1e-15)
    assert perplexity(nll).error == 0


def test_a_mean_has_the_standard_error_of_the_formula() -> None:
    assert mean(np.array([1.0, 3.0])) == Estimate(2.0, 1.0)
    assert mean(np.array([2.0])) == Estimate(2.0, 0.0)
    # E[x] = 2.5, E[x^2] = 7.5, n = 4
    assert mean(np.array([1.0, 2.0, 3.0, 4.0])).error == pytest.approx(math.sqrt(1.25 / 3))


@given(logits)
def test_log_probabilities_sum_to_one_and_do_not_overflow(values: list[float]) -> None:
    found = log_softmax(np.array(values) + 1e4)
    assert math.fsum(np.exp(found)) == pytest.approx(1, abs=1e-9)


def test_a_divergence_between_two_coins_is_the_textbooks() -> None:
    fair, bent = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    assert kl_divergence(fair, bent) == pytest.approx(0.5 * math.log(4 / 3))
    assert kl_divergence(bent, fair) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_tokens_impossible_in_the_base_add_nothing_and_in_the_other_infinity() -> None:
    never = np.array([0.0, -np.inf])
    half = np.log([0.5, 0.5])
    assert kl_divergence(never, half) == pytest.approx(math.log(2))
    assert kl_divergence(never, never) == 0
    assert kl_divergence(half, never) == np.inf


@given(logits, st.data())
def test_a_divergence_is_never_negative_and_none_from_itself(
    values: list[float], data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.floats(-50, 50), min_size=len(values), max_size=len(values)))
    base, other = log_softmax(np.array(values)), log_softmax(np.array(others))
    assert kl_divergence(base, other) >= -1e-12
    assert kl_divergence(base, base) == 0


def test_a_text_is_compared_as_llama_perplexity_does() -> None:
    base, other = np.log([2.0, 4.0, 8.0]), np.log([4.0, 4.0, 4.0])
    kld = np.array([0.0, 0.3, 0.6])
    found = compare_text(other, base, kld, np.array([True, True, False]))
    assert found.ln_ratio.value == pytest.approx(0, abs=1e-15)
    # se_b^2 + se_q^2 - 2 cov, where se_q and cov are 0
    assert found.ln_ratio.error == pytest.approx(mean(base).error)
    assert found.kld.value == pytest.approx(0.3)
    assert [found.kld_percentiles[q] for q in ("0", "50", "100")] == [0.0, 0.3, 0.6]
    assert found.dp.value == pytest.approx((-0.25 + 0 + 0.125) / 3)
    assert found.dp_rms == pytest.approx(math.sqrt((0.25**2 + 0.125**2) / 3))
    assert found.same_top.value == pytest.approx(2 / 3)
    assert found.correlation == 1.0


def test_a_model_compared_with_itself_is_the_same() -> None:
    nll = np.array([1.0, 2.0, 4.0])
    found = compare_text(nll, nll, np.zeros(3), np.ones(3, bool))
    assert (found.ln_ratio, found.kld, found.dp) == (Estimate(0, 0),) * 3
    assert found.correlation == pytest.approx(1)
    assert (found.same_top.value, found.same_top.high) == (1, 1)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # Newcombe 1998, table I: the score method without continuity correction
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_a_shares_interval_is_the_published_one(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson(successes, trials)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_shares_interval_holds_it_and_stays_within_zero_and_one(some: int, more: int) -> None:
    found = wilson(some, some + more)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_lean_is_the_log_odds_of_two_sets() -> None:
    ten, twenty = np.log([0.5, 0.2]), np.log([0.2])
    five = np.log([0.1, 0.5])
    # 0.10 + 0.20 against 0.05
    assert lean([ten, twenty], [five]) == pytest.approx(math.log(6))
    assert lean([five], [ten, twenty]) == pytest.approx(-math.log(6))


def test_a_lean_per_token_minds_neither_the_length_of_answers_nor_their_number() -> None:
    short, long = np.log([0.5]), np.log([0.5] * 12)
    assert lean([short], [long, long, long], per_token=True) == pytest.approx(0, abs=1e-12)
    assert lean([short], [long]) == pytest.approx(11 * math.log(2))


def test_a_bootstrap_of_equal_samples_is_sure_and_of_unequal_ones_holds_the_mean() -> None:
    assert bootstrap(np.full(7, 0.25)) == Interval(0.25, 0.25, 0.25)
    samples = np.arange(50.0)
    found = bootstrap(samples)
    assert found.low < found.value == 24.5 < found.high
    # Near the normal interval of the mean, sigma / sqrt(n).
    assert found.high - found.low == pytest.approx(2 * 1.96 * samples.std() / 50**0.5, rel=0.05)
    assert bootstrap(samples) == found


def test_one_layers_routing_is_counted_by_hand() -> None:
    chosen = np.array([[0, 1], [2, 3], [0, 2]])
    base = np.array([[1, 0], [2, 1], [1, 3]])
    even = np.full((3, 4), 0.25)
    found = compare_routing(chosen, even, base, even)
    assert found.same_experts == pytest.approx(1 / 3)
    assert found.jaccard == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found.kld == 0
    assert found.load == pytest.approx([2 / 6, 1 / 6, 2 / 6, 1 / 6])
    sure = np.tile([0.7, 0.1, 0.1, 0.1], (3, 1))
    expected = sum(0.25 * math.log(0.25 / p) for p in (0.7, 0.1, 0.1, 0.1))
    assert compare_routing(chosen, sure, base, even).kld == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 4, 8, 64])
def test_the_entropy_is_1_if_every_expert_processes_as_many_tokens(count: int) -> None:
    assert normalized_entropy((1 / count,) * count) == 1
    assert normalized_entropy(expert_load(np.arange(2 * count), count)) == 1


@pytest.mark.parametrize("count", [2, 3, 64])
def test_the_entropy_is_0_if_one_expert_processes_all_tokens(count: int) -> None:
    found = normalized_entropy(expert_load(np.zeros((5, 1), int), count))
    assert (found, math.copysign(1, found)) == (0, 1)


def test_the_only_expert_has_an_even_load() -> None:
    assert normalized_entropy((1.0,)) == 1


def test_the_entropy_of_uneven_shares_is_that_of_the_hand_calculation() -> None:
    # (1/2 ln 2 + 2/4 ln 4) / ln 4, and (3/4 ln 4/3 + 1/4 ln 4) / ln 2
    assert normalized_entropy((0.25, 0, 0.5, 0.25)) == pytest.approx(0.75, rel=1e-15)
    assert normalized_entropy((0.75, 0.25)) == pytest.approx(0.811278124459, rel=1e-12)


@given(st.data(), st.integers(2, 12))
def test_the_entropy_is_between_that_of_the_same_k_experts_and_1(
    data: st.DataObject, count: int
) -> None:
    used = data.draw(st.integers(1, count))
    tokens = data.draw(st.lists(st.permutations(range(count)), min_size=1, max_size=9))
    found = normalized_entropy(expert_load(np.array(tokens)[:, :used], count))
    least = math.log(used) / math.log(count)
    assert least - 1e-12 <= found <= 1
    same = np.tile(tokens[0][:used], (len(tokens), 1))
    assert normalized_entropy(expert_load(same, count)) == pytest.approx(least)


@given(st.data(), st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(any))
def test_the_entropy_does_not_depend_on_the_order_of_experts(
    data: st.DataObject, sizes: list[float]
) -> None:
    total = math.fsum(sizes)
    shares = [one / total for one in sizes]
    found = normalized_entropy(shares)
    assert 0 <= found <= 1
    assert normalized_entropy(data.draw(st.permutations(shares))) == found


def test_router_weights_of_every_gate_become_probabilities() -> None:
    softmax = np.array([[0.25, 0.75]])
    assert distribution(softmax).tolist() == softmax.tolist()
    assert distribution(np.array([[0.5, 1.5]])).tolist() == softmax.tolist()
    assert distribution(np.array([[-math.log(3), 0.0]])) == pytest.approx(softmax)


def test_distinct_n_is_the_share_of_different_n_grams() -> None:
    words = ["the", "sea", "the", "sea", "the", "ship"]
    assert distinct_n(words, 1) == 3 / 6
    assert distinct_n(words, 2) == 3 / 5
    assert distinct_n(words, 7) == 0


def test_repetition_counts_what_stood_in_the_same_text_before() -> None:
    song = ["row", "row", "row", "your", "boat", "row", "row", "row", "your", "boat"]
    # Seven 4-grams, five of them different: the first two come again.
    assert repetition([song]) == pytest.approx(2 / 7)
    assert repetition([song, song]) == pytest.approx(2 / 7)
    assert repetition([["row"] * 3]) == 0


def test_a_vocabulary_is_that_of_whole_windows_and_a_short_text_is_scaled_by_the_root() -> None:
    words = [n % 300 for n in range(1000)] + [n % 100 for n in range(1000, 2000)] + ["rest"]
    assert vocabulary_size(words) == 200
    assert vocabulary_size(["a", "b", "a", "c"], window=16) == 6
    assert vocabulary_size([]) == 0
