"""Sentences that follow from the study's results, by fixed rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from franken_gguf.runner.compare.results.metrics import Interval
from lean_study.cells import (
    CONTROLS,
    GROUPS,
    IMATRIX,
    PLAIN,
    RUNGS,
    SIZE,
    VARIANTS,
    Cell,
    baseline,
    cells,
)
from lean_study.summary import Leaning, Results, control_change, leaning, measured, moved

_WAYS = {
    IMATRIX: "with an importance matrix",
    PLAIN: "without an importance matrix",
    SIZE: "with `--target-size`",
}


def verdict(results: Results, model: str = "demo", variant: str = IMATRIX) -> list[str]:
    """Sentences that follow from what is measured, by fixed rules."""
    base = leaning(results, baseline(model))
    some = [cell for cell in measured(results, model, variant) if cell != baseline(model)]
    if base is None:
        return ["Nothing is measured yet."]
    if not some:
        return [_base_sentence(base), "No quant is measured yet."]
    changes = [(cell, _known(leaning(results, cell))) for cell in some]
    count = len(cells(model, variant)) - 1
    moves = [(cell.rung, moved(one.content_change)) for cell, one in changes]
    return [
        _base_sentence(base),
        f"Measured of {model}: {len(some)} of {count} quants.",
        holds(moves) if 2 * len(some) >= count else "That is too few to say what holds.",
        _sentence("The lean moves", [(c.rung, one.change) for c, one in changes]),
        _sentence(
            "Without the effect of length, it moves",
            [(c.rung, one.content_change) for c, one in changes],
        ),
        _control_sentence(results, some),
    ]


def group_verdict(results: Results, rungs: Sequence[str]) -> list[str]:
    """A sentence for each group of tensors rounded alone, and whether one decides the direction."""
    sentences, deciding = [], []
    for group in GROUPS:
        found = [(rung, leaning(results, Cell("demo", group, rung))) for rung in rungs]
        changes = [(rung, one.content_change) for rung, one in found if one]
        if not changes:
            continue
        part = group.removeprefix("only ")
        sentences.append(_sentence(f"With only the {part} rounded, it moves", changes))
        moves = {moved(change) for _, change in changes}
        if len(moves) == 1 and 0 not in moves:
            deciding.append(f"the change by the {part}")
    if not sentences:
        return ["Nothing is measured yet."]
    if deciding:
        last = f"In the same direction at all of these quants: {', '.join(deciding)}."
    else:
        last = "No part moves it in the same direction at all of these quants."
    return [*sentences, last]


def mixture_verdict(results: Results, models: Iterable[str]) -> list[str]:
    """Whether the sentence holds for other mixtures, with an importance matrix and without."""
    sentences = []
    for model in models:
        for variant in (IMATRIX, PLAIN):
            some = [c for c in measured(results, model, variant) if c != baseline(model)]
            if 2 * len(some) < len(cells(model, variant)) - 1:
                continue
            changes = [(c.rung, _known(leaning(results, c)).content_change) for c in some]
            found = holds([(rung, moved(change)) for rung, change in changes])
            moves = _sentence("The lean moves", changes)
            sentences.append(f"{model}, {_WAYS[variant]}: {found} {moves}")
        if sizes := _mean_changes(results, model):
            sentences.append(f"{model}: the mean size of the change at {sizes}")
    return sentences or ["Nothing is measured yet."]


def variant_verdict(results: Results) -> list[str]:
    """How much each way of rounding moves the lean, and whether the sentence holds for it."""
    sizes = _mean_changes(results, "demo")
    if not sizes:
        return ["Nothing is measured yet."]
    sentences = [f"The mean size of the change at {sizes}"]
    for variant in (PLAIN, SIZE):
        found = measured(results, "demo", variant)
        changes = [(c.rung, _known(leaning(results, c)).content_change) for c in found]
        moves = [(rung, moved(change)) for rung, change in changes]
        way = _WAYS[variant]
        sentences.append(f"{way[0].upper()}{way[1:]}: {holds(moves)}")
        sentences.append(_control_sentence(results, found))
    return sentences


def _mean_changes(results: Results, model: str) -> str:
    """For each way of rounding, over the quants that all have; empty if there are none."""
    rungs = [
        {cell.rung for cell in measured(results, model, variant)} - {baseline(model).rung}
        for variant in VARIANTS
    ]
    common = [rung for rung in RUNGS if all(rung in some for some in rungs)]
    if not common:
        return ""
    sizes = ", ".join(
        f"{_WAYS[variant]} {_mean_change(results, model, variant, common):.2f}"
        for variant in VARIANTS
    )
    return f"{', '.join(common)}: {sizes}."


def _mean_change(results: Results, model: str, variant: str, rungs: Iterable[str]) -> float:
    found = [_known(leaning(results, Cell(model, variant, rung))) for rung in rungs]
    return float(np.mean([abs(one.content_change.value) for one in found if one.content_change]))


def _base_sentence(base: Leaning) -> str:
    def text(one: Interval) -> str:
        return f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"

    return (
        f"F16 itself leans by {text(base.lean)} to eternal life, {text(base.content)} without the "
        f"effect of length; by {text(base.first)} to the option that is named first, and by "
        f"{text(base.shorter)} to the shorter one."
    )


def _known(found: Leaning | None) -> Leaning:
    assert found is not None
    return found


def holds(moves: Sequence[tuple[str, int]]) -> str:
    """Whether from some quant on all smaller ones lean more to eternal life; most bits first."""
    tail = 0
    for _, move in reversed(moves):
        if move != 1:
            break
        tail += 1
    if tail:
        rung = moves[-tail][0]
        return (
            f"The sentence holds from {rung} on: it and every smaller quant that is measured leans "
            "more to eternal life than F16, without the effect of length."
        )
    if any(move == 1 for _, move in moves):
        return (
            "The sentence does not hold as a rule: some quants lean more to eternal life than F16, "
            "but the smallest that is measured does not."
        )
    return "The sentence does not hold: no quant leans for certain more to eternal life than F16."


def _sentence(begins: str, changes: Sequence[tuple[str, Interval | None]]) -> str:
    def listed(side: int) -> str:
        found = [(rung, one) for rung, one in changes if one and moved(one) == side]
        if not side:
            return ", ".join(rung for rung, _ in found)
        return ", ".join(f"{rung} ({one.value:+.2f})" for rung, one in found)

    parts = [
        f"{words}: {rungs}"
        for side, words in ((1, "towards eternal life"), (-1, "towards the mortal life"))
        if (rungs := listed(side))
    ]
    parts += [f"not for certain: {rungs}"] if (rungs := listed(0)) else []
    return f"{begins} from F16's " + "; ".join(parts) + "."


def _control_sentence(results: Results, some: Sequence[Cell]) -> str:
    def size(changes: Iterable[Interval | None]) -> float:
        return float(np.mean([abs(one.value) for one in changes if one]))

    listed = ", ".join(
        f"{question} {size(control_change(results, cell, question) for cell in some):.2f}"
        for question in CONTROLS[1:]
    )
    own = size(_known(leaning(results, cell)).content_change for cell in some)
    return (
        f"The mean size of the change over these quants is, for the controls, {listed}; and for "
        f"eternal life without the effect of length {own:.2f}."
    )
