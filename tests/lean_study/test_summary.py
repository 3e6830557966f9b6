"""What the study's results mean, and the page that is made of them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from lean_study.cells import (
    CONTROLS,
    IMATRIX,
    LEANS,
    PLAIN,
    QUESTION,
    SIZE,
    TEXT,
    Cell,
    baseline,
    cells,
    samples,
)
from lean_study.page import plot, with_tables
from lean_study.summary import leaning, moved, sampled
from lean_study.verdict import group_verdict, holds, mixture_verdict, variant_verdict, verdict

BASE, QUANT = baseline("demo"), Cell("demo", IMATRIX, "Q2_K")


def cell(bits: float, leans: dict[str, list[list[float]]]) -> dict[str, Any]:
    every = {name: [[0.0, 0.0]] * 6 for name in (QUESTION, *CONTROLS)} | leans
    return {
        "bytes": 1,
        "bits": bits,
        TEXT: {"kld": [0.1, 0.3], "same_top": [1.0, 1.0], "same_experts": [0.5], "jaccard": [0.6]},
        LEANS: {name: {"raw": raw, "per_token": raw} for name, raw in every.items()},
    }


def results(own: float, mirrored: float) -> dict[str, Any]:
    leans = {QUESTION: [[own + 1, own - 1]] * 6, CONTROLS[0]: [[mirrored, mirrored]] * 6}
    return {BASE.key: cell(16, {}), QUANT.key: cell(3, leans)}


def test_a_lean_is_divided_into_content_and_length_and_order() -> None:
    found = leaning(results(own=3.0, mirrored=1.0), QUANT)
    assert found
    parts = found.lean.value, found.content.value, found.shorter.value, found.first.value
    assert parts == (3.0, 2.0, 1.0, 1.0)
    assert found.change and found.change.value == 3.0
    assert moved(found.content_change) == 1


def test_a_lean_that_turns_with_the_length_is_no_lean_to_eternal_life() -> None:
    (_, _, too_few, moves, without_length, _) = verdict(results(own=2.0, mirrored=-2.0))
    assert too_few == "That is too few to say what holds."
    assert moves == "The lean moves from F16's towards eternal life: Q2_K (+2.00)."
    assert without_length.endswith("from F16's not for certain: Q2_K.")


def test_the_sentence_holds_only_if_the_smallest_quants_lean_that_way() -> None:
    assert holds([("Q6_K", 0), ("Q2_K", 1), ("IQ1_S", 1)]).startswith("The sentence holds from Q2")
    assert holds([("Q2_K", 1), ("IQ1_S", 0)]).startswith("The sentence does not hold as a rule")
    assert holds([("Q2_K", -1), ("IQ1_S", 0)]).startswith("The sentence does not hold: no quant")


def test_without_measurements_nothing_is_concluded() -> None:
    assert verdict({}) == ["Nothing is measured yet."]
    own = results(own=3.0, mirrored=1.0)
    (own_lean, nothing_else) = verdict({BASE.key: own[BASE.key]})
    assert own_lean.startswith("F16 itself leans by +0.00 (+0.00 to +0.00) to eternal life")
    assert nothing_else == "No quant is measured yet."


def test_a_part_that_moves_the_lean_in_one_direction_at_all_quants_is_named() -> None:
    up, down = (cell(3, {QUESTION: [[x, x]] * 6, CONTROLS[0]: [[x, x]] * 6}) for x in (2.0, -2.0))
    found = {BASE.key: cell(16, {})}
    for rung, experts in (("Q3_K_M", up), ("Q2_K", down)):
        found[Cell("demo", "only attention", rung).key] = up
        found[Cell("demo", "only experts", rung).key] = experts
    (attention, experts_, last) = group_verdict(found, ("Q3_K_M", "Q2_K"))
    assert (
        "only the attention rounded, it moves from F16's towards eternal life: Q3_K_M (+2.00), Q2_K"
        in attention
    )
    assert experts_.endswith(
        "towards eternal life: Q3_K_M (+2.00); towards the mortal life: Q2_K (-2.00)."
    )
    assert last == "In the same direction at all of these quants: the change by the attention."
    assert group_verdict({}, ("Q2_K",)) == ["Nothing is measured yet."]


def test_other_mixtures_are_judged_once_half_of_their_quants_are_measured() -> None:
    two = cells("two", IMATRIX)
    up = cell(3, {QUESTION: [[1.0, 1.0]] * 6, CONTROLS[0]: [[1.0, 1.0]] * 6})
    found = {two[0].key: cell(16, {})} | {one.key: up for one in two[1:7]}
    (sentence,) = mixture_verdict(found, ("two", "six"))
    assert sentence.startswith("two, with an importance matrix: The sentence holds from ")
    for variant in (PLAIN, SIZE):
        found[Cell("two", variant, "Q2_K").key] = up
    assert mixture_verdict(found, ("two",))[1] == (
        "two: the mean size of the change at Q2_K: with an importance matrix 1.00, without an "
        "importance matrix 1.00, with `--target-size` 1.00."
    )
    found = {two[0].key: cell(16, {})} | {one.key: up for one in two[1:6]}
    assert mixture_verdict(found, ("two",)) == ["Nothing is measured yet."]


def test_ways_of_rounding_are_compared_at_the_quants_measured_in_all_of_them() -> None:
    found = {BASE.key: cell(16, {})}
    for variant, change in ((IMATRIX, 1.0), (PLAIN, -3.0), (SIZE, 0.5)):
        leans = {QUESTION: [[change, change]] * 6, CONTROLS[0]: [[change, change]] * 6}
        found[Cell("demo", variant, "Q2_K").key] = cell(3, leans)
    found[Cell("demo", IMATRIX, "Q6_K").key] = cell(6, {})
    (sizes, plain, plain_controls, size, _) = variant_verdict(found)
    assert sizes == (
        "The mean size of the change at Q2_K: with an importance matrix 1.00, without an "
        "importance matrix 3.00, "
        "with `--target-size` 0.50."
    )
    assert plain.startswith("Without an importance matrix: The sentence does not hold: no quant")
    assert plain_controls.endswith("for eternal life without the effect of length 3.00.")
    assert size.startswith("With `--target-size`: The sentence holds from Q2_K on")


def test_sampled_answers_of_all_batches_count() -> None:
    found = {QUANT.key: {samples(QUESTION, n): {"leans": [1.0, -1.0, 2.0]} for n in (0, 1)}}
    assert sampled(found, QUANT, QUESTION)[:2] == (4, 6)


def test_tables_are_made_of_the_results_and_all_else_is_kept() -> None:
    text = "before\n<!-- study: leans -->\nold\n<!-- end -->\nafter\n"
    page = with_tables(text, results(own=3.0, mirrored=1.0))
    assert page.startswith("before\n") and page.endswith("<!-- end -->\nafter\n")
    assert "| Q2_K | 3.00 | +3.00 (+3.00 to +3.00) | **+3.00** (+3.00 to +3.00) |" in page
    assert "old" not in page
    assert with_tables(page, results(own=3.0, mirrored=1.0)) == page


def test_a_quoted_answer_is_cut_and_cannot_change_the_page() -> None:
    answers = {samples(QUESTION, 1): {"first_answer": "a | <!-- end -->\n\x1b[1m" + "b" * 200}}
    page = "<!-- study: answers -->\n<!-- end -->\n"
    table = with_tables(page, {BASE.key: cell(16, {}) | answers})
    quoted = "a &#124; &#60;!-- end --&#62; &#91;1m"
    assert f"| F16 |  | {quoted}{'b' * 129} ... |\n<!-- end -->\n" in table


def test_the_plot_is_an_svg_file_that_names_every_quant() -> None:
    drawn = ElementTree.fromstring(plot(results(own=3.0, mirrored=1.0)))
    words = [node.text for node in drawn.iter() if node.tag.endswith("text")]
    assert {"F16", "Q2_K", QUESTION} <= set(words)
