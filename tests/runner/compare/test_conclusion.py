"""What a comparison comes down to, in words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.results.conclusion import conclusion, rungs
from franken_gguf.runner.compare.results.document import Comparison, Routing
from franken_gguf.runner.compare.results.metrics import LayerRouting
from franken_gguf.runner.terminal.text import printable
from support.comparisons import LIFE, answer, comparison, drawn, lean, model, score

F16 = model("F16", 1024, text=score(None))
Q8 = model("Q8_0", 512, text=score(0.002, 0.0001, 0.98))
Q4 = model("Q4_0", 256, text=score(0.08, 0.002, 0.88))
Q2 = model("Q2_K", 128, text=score(0.4, 0.01, 0.7))


def sentences(found: Comparison) -> list[str]:
    return conclusion(found).replace(". ", ".\n").splitlines()


def test_the_largest_that_fits_is_taken_where_each_is_closer_than_the_next() -> None:
    assert sentences(comparison(F16, Q8, Q2)) == [
        "Take F16 where 1.0 GiB fit, Q8_0 from 512.0 MiB and Q2_K from 128.0 MiB, "
        "context not counted.",
        "On alice.txt, F16's likeliest token is also that of Q8_0 at 98.0 % "
        "(KL divergence 0.0020) and Q2_K at 70.0 % (KL divergence 0.4000).",
    ]


def test_what_is_larger_and_no_closer_is_not_taken() -> None:
    larger = replace(Q4, name="Q4_1", nbytes=Q4.nbytes + 1, text=score(0.09, 0.002))
    said = sentences(comparison(F16, larger, Q4))
    assert said[:2] == [
        "Take F16 where 1.0 GiB fit and Q4_0 from 256.0 MiB, context not counted.",
        "Q4_1 is larger than Q4_0 and no closer.",
    ]


def test_those_that_a_smaller_one_does_as_well_as_are_named_together_and_no_more() -> None:
    larger = [
        replace(Q4, name=f"Q{n}", nbytes=Q4.nbytes + n, text=score(0.09, 0.002)) for n in (6, 5)
    ]
    assert sentences(comparison(F16, *larger, Q4)) == [
        "Take F16 where 1.0 GiB fit and Q4_0 from 256.0 MiB, context not counted.",
        "Q6 and Q5 are larger than Q4_0 and no closer.",
        "On alice.txt, F16's likeliest token is also that of Q4_0 at 88.0 % "
        "(KL divergence 0.0800).",
    ]


def test_where_intervals_overlap_it_cannot_be_told_which_is_closer() -> None:
    larger = replace(Q4, name="Q4_1", nbytes=Q4.nbytes + 1, text=score(0.079, 0.002))
    said = sentences(comparison(F16, larger, Q4))
    assert said[:2] == [
        "Take F16 where 1.0 GiB fit and Q4_0 from 256.0 MiB, context not counted.",
        "Whether Q4_1 is closer to F16 than Q4_0, which is smaller, cannot be told.",
    ]


def test_what_mostly_finds_another_token_is_no_substitute() -> None:
    lost = replace(Q2, text=score(3.4, 0.05, 0.14))
    assert sentences(comparison(F16, Q4, lost))[:2] == [
        "Take F16 where 1.0 GiB fit and Q4_0 from 256.0 MiB, context not counted.",
        "Q2_K (128.0 MiB) is no substitute: "
        "at most positions it finds another token the likeliest.",
    ]
    undecided = replace(Q2, text=score(0.4, 0.01, 0.49))
    assert not rungs(comparison(F16, undecided))[0].is_lost


def test_what_is_larger_than_the_baseline_is_not_ranked() -> None:
    assert sentences(comparison(Q4, replace(F16, text=score(0.08))))[0] == (
        "No smaller than Q4_0: F16; how far a model is from a smaller one does not say which of "
        "them is better."
    )


def test_without_a_text_the_answers_are_the_measure() -> None:
    found = comparison(
        replace(F16, text=None, answers=score(None)),
        replace(Q4, text=None, answers=score(0.08, same_top=0.5)),
        prompts=(LIFE,),
        text="",
    )
    assert sentences(found) == [
        "Take F16 where 1.0 GiB fit and Q4_0 from 256.0 MiB, context not counted.",
        "On F16's answers, F16's likeliest token is also that of Q4_0 at 50.0 % "
        "(KL divergence 0.0800).",
    ]


def test_a_single_model_has_nothing_to_be_held_against() -> None:
    assert conclusion(comparison(F16)) == (
        "There is only F16, and nothing to hold it against: name a second quant."
    )


def test_a_model_that_failed_is_named_with_its_reason() -> None:
    broken = model("Q3_K_S", 200, error="q3.gguf: tensor 'blk.3' not found; convert it again.")
    assert conclusion(comparison(F16, broken)) == (
        "Q3_K_S could not be measured: q3.gguf: tensor 'blk.3' not found; convert it again."
    )
    partly = replace(broken, text=score(0.1), error="out of memory")
    said = sentences(comparison(F16, partly))
    assert said[-1] == "Q3_K_S could not be measured in full: out of memory."


def test_the_share_of_same_experts_is_said() -> None:
    layer = (LayerRouting((0.5, 0.5), 0.9, 0.95, 0.01),)
    routed = [
        replace(F16, routing=Routing(9, (LayerRouting((0.5, 0.5)),))),
        replace(Q8, routing=Routing(9, layer, 0.991, 0.995, 0.01, (0,))),
        replace(Q4, routing=Routing(9, layer, 0.9, 0.95, 0.01, (0,))),
    ]
    assert sentences(comparison(*routed))[-1] == (
        "The same experts as in F16 are chosen by Q8_0 for 99.1 % and Q4_0 for 90.0 % "
        "of tokens and layers."
    )


def test_leans_that_moved_are_told_from_those_that_cannot_be_told() -> None:
    asked = [
        replace(F16, prompts=(answer(lean=lean(2.0)),)),
        replace(Q8, prompts=(answer(lean=lean(2.1, (0.1, -0.1, 0.3))),)),
        replace(Q4, prompts=(answer(lean=lean(2.6, (0.6, 0.4, 0.8))),)),
        replace(Q2, prompts=(answer(lean=lean(-1.0, (-3.0, -3.5, -2.5))),)),
    ]
    assert sentences(comparison(*asked, prompts=(LIFE,)))[-1] == (
        "On life, F16 leans to “eternal” (+1.50 to +2.50 in log-odds); "
        "Q4_0 moves towards “eternal” by 0.60 (0.40 to 0.80); "
        "Q2_K moves towards “mortal” by 3.00 (2.50 to 3.50) and leans there; "
        "whether Q8_0 (-0.10 to +0.30) moves from there cannot be told."
    )


def test_a_move_within_the_noise_cannot_be_told() -> None:
    asked = [
        replace(F16, prompts=(answer(lean=lean(0.2)),)),
        replace(Q8, prompts=(answer(lean=lean(0.3, (0.1, 0.05, 0.15), noise=0.2)),)),
        replace(Q4, prompts=(answer(lean=lean(0.3, (0.1, -0.05, 0.25), noise=0.2)),)),
    ]
    assert sentences(comparison(*asked, prompts=(LIFE,)))[-1] == (
        "On life, F16 leans to neither side for certain (-0.30 to +0.70 in log-odds); "
        "whether Q8_0 (+0.05 to +0.15, within the noise of 0.20) and Q4_0 (-0.05 to +0.25) move "
        "from there cannot be told."
    )


@pytest.mark.parametrize(("count", "wordings"), [(1, "1 wording"), (3, "3 wordings")])
def test_too_few_paraphrases_tell_nothing(count: int, wordings: str) -> None:
    moved = lean(-1.0, (-3.0, -3.5, -2.5), count=count)
    asked = [
        replace(F16, prompts=(answer(lean=lean(2.0, count=count)),)),
        replace(Q8, prompts=(answer(lean=moved),)),
    ]
    assert sentences(comparison(*asked, prompts=(LIFE,)))[-1] == (
        f"Where life leans cannot be told from {wordings}; 5 are needed."
    )


KLDS = st.lists(st.floats(0, 9), min_size=1, max_size=8)


@given(KLDS, st.floats(0, 1), st.randoms())
def test_what_is_taken_is_closer_the_larger_it_is(
    klds: list[float], error: float, order: Random
) -> None:
    models = [model(f"Q{n}", 100 + n, text=score(kld, error)) for n, kld in enumerate(klds)]
    order.shuffle(models)
    found = rungs(comparison(F16, *models))
    assert sorted(one.model.name for one in found) == sorted(one.name for one in models)
    taken = [one for one in found if one.is_worth_it]
    assert taken[-1].model.nbytes == min(one.nbytes for one in models)
    for larger, smaller in pairwise(taken):
        assert larger.model.nbytes > smaller.model.nbytes
        assert larger.kld.value + 1.95 * error <= smaller.kld.value - 1.95 * error
    for one in found:
        assert one.is_worth_it or (one.smaller and one.smaller.nbytes < one.model.nbytes)


@given(st.integers(0, 2**32), st.text())
def test_every_model_has_its_place_in_one_printable_paragraph(seed: int, words: str) -> None:
    found = drawn(seed, words=words)
    said = conclusion(found)
    assert said == printable(said) and said.endswith(".")
    assert all(printable(one.name) in said for one in found.models)
    moved = np.array([one.prompts[0].lean.moved for one in found.models])  # type: ignore[union-attr]
    assert said.count(" moves towards ") == np.count_nonzero(moved)
