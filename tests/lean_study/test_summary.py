"""What the study's results mean, and the page that is made of them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from lean_study.cells import CONTROLS, IMATRIX, LEANS, QUESTION, TEXT, Cell, baseline, samples
from lean_study.page import plot, with_tables
from lean_study.summary import holds, leaning, moved, sampled, verdict

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


def test_the_plot_is_an_svg_file_that_names_every_quant() -> None:
    drawn = ElementTree.fromstring(plot(results(own=3.0, mirrored=1.0)))
    words = [node.text for node in drawn.iter() if node.tag.endswith("text")]
    assert {"F16", "Q2_K", QUESTION} <= set(words)
