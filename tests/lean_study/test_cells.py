"""What the study measures, in which order, and what is left of it."""

from __future__ import annotations

from franken_gguf.quantize.tensor_types.type_presets import find_preset
from lean_study.cells import (
    CONTROLS,
    IMATRIX,
    LEANS,
    MODELS,
    PLAIN,
    QUESTION,
    RUNGS,
    SIZE,
    TEXT,
    VARIANTS,
    Cell,
    baseline,
    cells,
    missing,
    samples,
    steps,
)
from lean_study.running import questions


def test_the_unquantized_model_comes_first_and_then_quants_that_cover_the_range() -> None:
    first = list(dict.fromkeys(cell for cell, _ in steps()))[:5]
    assert first[0] == baseline("demo")
    assert [cell.rung for cell in first[1:]] == ["Q4_K_M", "Q2_K", "IQ2_XS", "IQ1_S"]


def test_in_the_end_every_quant_of_every_mixture_has_its_leans() -> None:
    done = set(steps())
    for model in MODELS:
        for variant in VARIANTS:
            for cell in cells(model, variant):
                assert {(cell, TEXT), (cell, LEANS)} <= done
    assert {cell.rung for cell in cells("demo", IMATRIX)} == set(RUNGS)


def test_64_answers_are_sampled_from_all_but_the_other_mixtures_with_a_target_size() -> None:
    with_answers = {
        *(cell for model in MODELS for v in (IMATRIX, PLAIN) for cell in cells(model, v)),
        *cells("demo", SIZE),
    }
    for cell in with_answers:
        assert {(cell, samples(QUESTION, n)) for n in range(64 // 16)} <= set(steps())
    assert {cell for cell, name in steps() if QUESTION in name} == with_answers


def test_a_quant_that_needs_an_importance_matrix_is_not_made_without() -> None:
    assert not [c for c in cells("demo", PLAIN) if find_preset(c.rung).without_imatrix]
    assert len(cells("demo", PLAIN)) >= 8


def test_what_is_stored_is_not_measured_again() -> None:
    wanted = missing({})
    (cell, name), *rest = wanted
    assert missing({cell.key: {name: {}}}) == rest
    assert {cell.model for cell, _ in missing({}, "six")} == {"six"}


def test_the_mirrored_question_has_the_wordings_of_the_question_so_that_they_pair() -> None:
    asked = {question.name: question for question in questions()}
    own, mirrored = asked[QUESTION], asked[CONTROLS[0]]
    assert len(own.paraphrases) == len(mirrored.paraphrases)
    for wording, other in zip(own.paraphrases, mirrored.paraphrases, strict=True):
        for text, its_mirror, labels, mirrored_labels in zip(
            wording,
            other,
            (own.labels, own.labels[::-1]),
            (mirrored.labels, mirrored.labels[::-1]),
            strict=True,
        ):
            for label, mirrored_label in zip(labels, mirrored_labels, strict=True):
                text = text.replace(label, "?", 1)
                its_mirror = its_mirror.replace(mirrored_label, "?", 1)
            assert text == its_mirror
    assert all(len(orders) == 2 for name in CONTROLS for orders in asked[name].paraphrases)


def test_a_cell_is_named_in_the_results_by_all_that_it_is() -> None:
    assert Cell("six", "size", "Q2_K").key == "six size Q2_K"
