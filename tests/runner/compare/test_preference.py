"""Blind choices: their file's lines, the interval, and whether it could be chance."""

from __future__ import annotations

import json
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.results.preference import (
    at_least,
    exact_interval,
    preference,
    sign_test,
)
from franken_gguf.runner.compare.results.votes import Vote, VotedModel, decode, encode

A, B, C = (VotedModel(f"{name}.gguf", f"id of {name}", "hash") for name in "ABC")
COUNTS = st.integers(0, 60)


def test_the_interval_is_clopper_and_pearsons() -> None:
    """Figures of R's binom.test."""
    for successes, trials, low, high in (
        (7, 9, 0.3999064, 0.9718550),
        (0, 5, 0.0, 0.5218238),
        (6, 6, 0.5407419, 1.0),
        (60, 100, 0.4972092, 0.6967052),
    ):
        found = exact_interval(successes, trials)
        assert (found.value, found.low, found.high) == pytest.approx(
            (successes / trials, low, high), abs=1e-7
        )


@given(wins=COUNTS, losses=COUNTS)
def test_the_test_is_a_sum_of_binomials_and_agrees_with_the_interval(
    wins: int, losses: int
) -> None:
    trials, most = wins + losses, max(wins, losses)
    tail = sum(comb(trials, k) for k in range(most, trials + 1)) / 2**trials
    assert sign_test(wins, losses) == pytest.approx(min(1, 2 * tail))
    found = exact_interval(wins, trials)
    assert (found.low > 0.5 or found.high < 0.5) == (sign_test(wins, losses) < 0.05)


@given(successes=COUNTS, more=COUNTS, p=st.floats(0.01, 0.99))
def test_the_tails_of_success_and_failure_add_up(successes: int, more: int, p: float) -> None:
    trials = successes + more
    both = at_least(successes, trials, p) + at_least(more + 1, trials, 1 - p)
    assert both == pytest.approx(1)


def test_choices_are_counted_by_identity_whatever_the_order_and_the_name() -> None:
    renamed = VotedModel("renamed.gguf", A.id)
    votes = [
        Vote((A, B), 0),
        Vote((B, A), 0),
        Vote((B, renamed), 1),
        Vote((A, B), None),
        Vote((A, C), 1),
        Vote((VotedModel("A.gguf", "another file"), B), 0),
    ]
    found = preference(votes, ("a", A.id), ("b", B.id))
    assert (found.first, found.first_chosen, found.second_chosen, found.equal) == ("a", 2, 1, 1)
    assert (found.choices, found.decided, found.is_beyond_chance) == (4, 3, False)
    other = preference(votes, ("b", B.id), ("a", A.id))
    assert (other.first_chosen, other.second_chosen, other.p_value) == (1, 2, found.p_value)


def test_without_a_choice_nothing_is_known() -> None:
    found = preference([], ("a", A.id), ("b", B.id))
    assert (found.choices, found.share.low, found.share.high, found.p_value) == (0, 0, 1, 1)


@given(
    st.builds(
        Vote,
        st.sampled_from([(A, B), (C, A)]),
        st.sampled_from([0, 1, None]),
        st.text(),
        st.dictionaries(st.text(), st.integers() | st.text()),
        st.none() | st.integers(),
    )
)
def test_a_vote_is_read_as_it_was_written(vote: Vote) -> None:
    line = encode(vote)
    assert line.endswith("\n") and line.count("\n") == 1
    assert decode(line).votes == (vote,)


@pytest.mark.parametrize(
    "line",
    [
        "not JSON",
        "[]",
        '{"version": 1}',
        encode(Vote((A, B), 0)).replace('"version": 1', '"version": 2'),
        encode(Vote((A, B), 0)).replace('"chosen": 0', '"chosen": 2'),
        encode(Vote((A, B), 0)).replace('"chosen": 0', '"chosen": true'),
        encode(Vote((A, A), 0)),
        encode(Vote((A, B), 0)).replace('"id of A"', "7"),
        json.dumps({"version": 1, "models": "xy", "chosen": None}),
        "[" * 100_000,
        "1" * 100_000,
    ],
)
def test_a_line_that_is_not_a_vote_is_counted_and_spoils_no_other(line: str) -> None:
    good = encode(Vote((A, B), 1))
    found = decode(good + line.rstrip("\n") + "\n\n" + good)
    assert len(found.votes) == 2 and found.other_lines == (2,)


@given(st.text())
def test_no_text_is_too_strange_to_be_read(text: str) -> None:
    decode(text)
