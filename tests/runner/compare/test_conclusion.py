"""The conclusion of a comparison, word for word."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.results.conclusion import conclusion, ranked_models
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


def test_each_model_that_is_closer_than_the_next_smaller_one_is_recommended() -> None:
    assert sentences(comparison(F16, Q8, Q2)) == [
        "Take F16 if you have 1.0 GiB for the weights, Q8_0 if you have 512.0 MiB and Q2_K if you "
        "have 128.0 MiB.",
        "On alice.txt, the top token is the same as F16's at 98.0 % of positions with Q8_0 "
        "(KL divergence 0.0020) and 70.0 % of positions with Q2_K (KL divergence 0.4000).",
    ]


def test_a_model_that_is_larger_but_no_closer_is_not_recommended() -> None:
    larger = replace(Q4, name="Q4_1", nbytes=Q4.nbytes + (2 << 20), text=score(0.09, 0.002))
    shown = sentences(comparison(F16, larger, Q4))
    assert shown[:2] == [
        "Take F16 if you have 1.0 GiB for the weights and Q4_0 if you have 256.0 MiB.",
        "Q4_1 is no smaller than Q4_0 and no closer to F16.",
    ]


def test_models_that_are_no_closer_than_a_smaller_one_share_one_sentence() -> None:
    larger = [
        replace(Q4, name=f"Q{n}", nbytes=Q4.nbytes + (n << 20), text=score(0.09, 0.002))
        for n in (6, 5)
    ]
    assert sentences(comparison(F16, *larger, Q4)) == [
        "Take F16 if you have 1.0 GiB for the weights and Q4_0 if you have 256.0 MiB.",
        "Q6 and Q5 are no smaller than Q4_0 and no closer to F16.",
        "On alice.txt, the top token is the same as F16's at 88.0 % of positions with Q4_0 "
        "(KL divergence 0.0800).",
    ]


def test_a_model_whose_interval_overlaps_is_not_clearly_closer() -> None:
    larger = replace(Q4, name="Q4_1", nbytes=Q4.nbytes + (2 << 20), text=score(0.079, 0.002))
    shown = sentences(comparison(F16, larger, Q4))
    assert shown[:2] == [
        "Take F16 if you have 1.0 GiB for the weights and Q4_0 if you have 256.0 MiB.",
        "Q4_1 is no smaller than Q4_0 but not clearly closer to F16: the intervals overlap.",
    ]


@pytest.mark.parametrize("difference", [-1, 0, 1, 1 << 20])
def test_the_closer_of_two_equally_large_models_is_recommended(
    difference: int,
) -> None:
    measured = replace(
        Q4, name="Q4_0-size", nbytes=Q4.nbytes + difference, text=score(0.079, 0.002)
    )
    shown = sentences(comparison(F16, Q4, measured))
    assert shown[:2] == [
        "Take F16 if you have 1.0 GiB for the weights and Q4_0-size if you have "
        f"{256 + (difference == 1 << 20)}.0 MiB.",
        "Q4_0 is no smaller than Q4_0-size and no closer to F16.",
    ]


def test_a_model_whose_top_token_mostly_differs_is_not_a_good_substitute() -> None:
    lost = replace(Q2, text=score(3.4, 0.05, 0.14))
    assert sentences(comparison(F16, Q4, lost))[:2] == [
        "Take F16 if you have 1.0 GiB for the weights and Q4_0 if you have 256.0 MiB.",
        "Q2_K (128.0 MiB) is not a good substitute: "
        "its top token differs from F16's at most positions.",
    ]
    undecided = replace(Q2, text=score(0.4, 0.01, 0.49))
    assert not ranked_models(comparison(F16, undecided))[0].is_unlike


def test_a_model_larger_than_the_baseline_is_not_ranked() -> None:
    assert sentences(comparison(Q4, replace(F16, text=score(0.08))))[0] == (
        "F16 is not smaller than Q4_0; the distance from a smaller model does not show which is "
        "better."
    )


def test_without_a_text_models_are_ranked_by_the_answers() -> None:
    found = comparison(
        replace(F16, text=None, answers=score(None)),
        replace(Q4, text=None, answers=score(0.08, same_top=0.5)),
        prompts=(LIFE,),
        text="",
    )
    assert sentences(found) == [
        "Take F16 if you have 1.0 GiB for the weights and Q4_0 if you have 256.0 MiB.",
        "On F16's answers, the top token is the same as F16's at 50.0 % of positions with Q4_0 "
        "(KL divergence 0.0800).",
    ]


def test_a_single_model_asks_for_a_second_one() -> None:
    assert conclusion(comparison(F16)) == (
        "Only F16 was measured; give a second model to compare it with."
    )


def test_a_model_that_failed_is_named_with_its_reason() -> None:
    broken = model("Q3_K_S", 200, error="q3.gguf: tensor 'blk.3' not found; convert it again.")
    assert conclusion(comparison(F16, broken)) == (
        "Q3_K_S could not be measured: q3.gguf: tensor 'blk.3' not found; convert it again."
    )
    partly = replace(broken, text=score(0.1), error="out of memory")
    shown = sentences(comparison(F16, partly))
    assert shown[-1] == "Q3_K_S could only be measured in part: out of memory."


def test_the_share_of_same_experts_is_reported() -> None:
    layer = (LayerRouting((0.5, 0.5), 0.9, 0.95, 0.01),)
    routed = [
        replace(F16, routing=Routing(9, (LayerRouting((0.5, 0.5)),))),
        replace(Q8, routing=Routing(9, layer, 0.991, 0.995, 0.01, (0,))),
        replace(Q4, routing=Routing(9, layer, 0.9, 0.95, 0.01, (0,))),
    ]
    assert sentences(comparison(*routed))[-1] == (
        "The router chooses the same experts as F16's for 99.1 % with Q8_0 and 90.0 % with Q4_0, "
        "over all tokens and layers."
    )


def test_leans_that_moved_are_separated_from_inconclusive_ones() -> None:
    asked = [
        replace(F16, prompts=(answer(lean=lean(2.0)),)),
        replace(Q8, prompts=(answer(lean=lean(2.1, (0.1, -0.1, 0.3))),)),
        replace(Q4, prompts=(answer(lean=lean(2.6, (0.6, 0.4, 0.8))),)),
        replace(Q2, prompts=(answer(lean=lean(-1.0, (-3.0, -3.5, -2.5))),)),
    ]
    assert sentences(comparison(*asked, prompts=(LIFE,)))[-1] == (
        "On life, F16 leans towards “eternal” (log-odds +1.50 to +2.50); "
        "Q4_0 moves towards “eternal” by 0.60 (0.40 to 0.80); "
        "Q2_K moves towards “mortal” by 3.00 (2.50 to 3.50), and now leans that way; "
        "inconclusive for Q8_0 (-0.10 to +0.30)."
    )


def test_a_move_within_the_noise_is_inconclusive() -> None:
    asked = [
        replace(F16, prompts=(answer(lean=lean(0.2)),)),
        replace(Q8, prompts=(answer(lean=lean(0.3, (0.1, 0.05, 0.15), noise=0.2)),)),
        replace(Q4, prompts=(answer(lean=lean(0.3, (0.1, -0.05, 0.25), noise=0.2)),)),
    ]
    assert sentences(comparison(*asked, prompts=(LIFE,)))[-1] == (
        "On life, F16 leans clearly to neither side (log-odds -0.30 to +0.70); "
        "inconclusive for Q8_0 (+0.05 to +0.15, within the noise of 0.20) and Q4_0 "
        "(-0.05 to +0.25)."
    )


@pytest.mark.parametrize(("count", "wordings"), [(1, "1 wording is"), (3, "3 wordings are")])
def test_too_few_paraphrases_ask_for_more(count: int, wordings: str) -> None:
    moved = lean(-1.0, (-3.0, -3.5, -2.5), count=count)
    asked = [
        replace(F16, prompts=(answer(lean=lean(2.0, count=count)),)),
        replace(Q8, prompts=(answer(lean=moved),)),
    ]
    assert sentences(comparison(*asked, prompts=(LIFE,)))[-1] == (
        f"{wordings} too few to compare leans on life; write at least 5."
    )


KLDS = st.lists(st.floats(0, 9), min_size=1, max_size=8)


@given(KLDS, st.floats(0, 1), st.randoms())
def test_a_larger_recommended_model_is_always_closer(
    klds: list[float], error: float, order: Random
) -> None:
    models = [model(f"Q{n}", 100 + n, text=score(kld, error)) for n, kld in enumerate(klds)]
    order.shuffle(models)
    found = ranked_models(comparison(F16, *models))
    assert sorted(one.model.name for one in found) == sorted(one.name for one in models)
    taken = [one for one in found if one.is_worth_it]
    assert taken[-1].model.nbytes == min(one.nbytes for one in models)
    for larger, smaller in pairwise(taken):
        assert larger.model.nbytes > smaller.model.nbytes
        assert larger.kld.value + 1.95 * error <= smaller.kld.value - 1.95 * error
    for one in found:
        closer_smaller = one.smaller is not None and one.smaller.nbytes < one.model.nbytes
        assert closer_smaller == (not one.is_worth_it)


@given(st.integers(0, 2**32), st.text())
def test_the_conclusion_names_every_model_in_one_printable_paragraph(seed: int, words: str) -> None:
    found = drawn(seed, words=words)
    shown = conclusion(found)
    assert shown == printable(shown) and shown.endswith(".")
    assert all(printable(one.name) in shown for one in found.models)
    leans = [one.prompts[0].lean for one in found.models if one.prompts[0]]
    moved = [lean.moved for lean in leans if lean]
    assert len(moved) == len(found.models)
    assert shown.count(" moves towards ") == np.count_nonzero(moved)
