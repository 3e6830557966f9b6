"""What the study's results mean: leans, what they are made of, and whether they moved. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.compare.results.metrics import Interval, bootstrap, wilson
from lean_study.cells import (
    CONTROLS,
    GROUPS,
    IMATRIX,
    LEANS,
    PLAIN,
    QUESTION,
    RUNGS,
    SIZE,
    TEXT,
    VARIANTS,
    Cell,
    baseline,
    cells,
)

F64 = NDArray[np.float64]
Results = Mapping[str, Any]

MIRRORED = CONTROLS[0]
_WAYS = {IMATRIX: "with an importance matrix", PLAIN: "without", SIZE: "with `--target-size`"}


@dataclass(frozen=True)
class Leaning:
    """A cell's leans in log-odds, each a mean over wordings with its 95 % bootstrap interval."""

    lean: Interval
    """Towards eternal life."""
    content: Interval
    """The same whichever option is the longer: the mean over the question and its mirror image."""
    shorter: Interval
    """Towards the shorter option: half the difference between the two."""
    first: Interval
    """Towards the option that is named first: half the difference between the two orders."""
    change: Interval | None
    """`lean` minus the unquantized model's, paired by wording; None for that model."""
    content_change: Interval | None


def leaning(results: Results, cell: Cell) -> Leaning | None:
    """Of a measured cell whose unquantized model is measured too."""
    own, base = (_leans(results, one) for one in (cell, baseline(cell.model)))
    if own is None or base is None:
        return None
    is_base = cell == baseline(cell.model)
    return Leaning(
        lean=bootstrap(_means(own[QUESTION])),
        content=bootstrap(_content(own)),
        shorter=bootstrap((_means(own[QUESTION]) - _means(own[MIRRORED])) / 2),
        first=bootstrap(_towards_first(own[QUESTION])),
        change=None if is_base else bootstrap(_means(own[QUESTION]) - _means(base[QUESTION])),
        content_change=None if is_base else bootstrap(_content(own) - _content(base)),
    )


def control_change(results: Results, cell: Cell, question: str) -> Interval | None:
    """A control's lean minus the unquantized model's; None if it is not measured."""
    own, base = (_leans(results, one) for one in (cell, baseline(cell.model)))
    if own is None or base is None:
        return None
    return bootstrap(_means(own[question]) - _means(base[question]))


def control_lean(results: Results, cell: Cell, question: str) -> Interval | None:
    """A control's lean; None if it is not measured."""
    own = _leans(results, cell)
    return None if own is None else bootstrap(_means(own[question]))


def divergence(results: Results, cell: Cell) -> Interval | None:
    """KL divergence from the unquantized model in nats for a token, over passages."""
    text = results.get(cell.key, {}).get(TEXT)
    return None if text is None else bootstrap(np.array(text["kld"]))


def same_experts(results: Results, cell: Cell) -> float | None:
    """Share of tokens and layers that get the same experts as in the unquantized model."""
    text = results.get(cell.key, {}).get(TEXT)
    return None if text is None else float(np.mean(text["same_experts"]))


def sampled(results: Results, cell: Cell, question: str) -> tuple[int, int, Interval]:
    """How many sampled answers choose the first option, of how many, and the share."""
    leans = [lean for batch in batches(results, cell, question) for lean in batch["leans"]]
    chosen = sum(lean > 0 for lean in leans)
    return chosen, len(leans), wilson(chosen, len(leans))


def batches(results: Results, cell: Cell, question: str) -> list[dict[str, Any]]:
    """The batches of sampled answers to a question that are there."""
    entry = results.get(cell.key, {})
    return [found for name, found in entry.items() if name.rsplit(" ", 1)[0] == question]


def measured(results: Results, model: str, variant: str) -> list[Cell]:
    """The cells of a variant whose leans are measured, those with the most bits first."""
    found = [cell for cell in cells(model, variant) if _leans(results, cell) is not None]
    return sorted(found, key=lambda cell: -float(results[cell.key]["bits"]))


def moved(change: Interval | None) -> int:
    """1 or -1 if the 95 % interval is above or below 0, else 0."""
    if change is None or change.low <= 0 <= change.high:
        return 0
    return 1 if change.value > 0 else -1


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
    """Whether the sentence holds for other mixtures."""
    sentences = []
    for model in models:
        some = [c for c in measured(results, model, IMATRIX) if c != baseline(model)]
        changes = [(c.rung, one.content_change) for c in some if (one := leaning(results, c))]
        if 2 * len(changes) >= len(cells(model, IMATRIX)) - 1:
            verdict_of_it = holds([(rung, moved(change)) for rung, change in changes])
            moves = _sentence("Without the effect of length, the lean moves", changes)
            sentences.append(f"{model}: {verdict_of_it} {moves}")
    return sentences or ["Nothing is measured yet."]


def variant_verdict(results: Results) -> list[str]:
    """How much each way of rounding moves the lean, over the quants measured in all of them."""
    rungs = [
        {cell.rung for cell in measured(results, "demo", variant)} - {baseline("demo").rung}
        for variant in VARIANTS
    ]
    common = [rung for rung in RUNGS if all(rung in some for some in rungs)]
    if not common:
        return ["Nothing is measured yet."]
    sizes = ", ".join(
        f"{_WAYS[variant]} {_mean_change(results, variant, common):.2f}" for variant in VARIANTS
    )
    return [f"The mean size of the change at {', '.join(common)}: {sizes}."]


def _mean_change(results: Results, variant: str, rungs: Iterable[str]) -> float:
    found = [_known(leaning(results, Cell("demo", variant, rung))) for rung in rungs]
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
            "more to eternal life than F16, whichever option is the longer."
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


def _leans(results: Results, cell: Cell) -> dict[str, Any] | None:
    found: dict[str, Any] | None = results.get(cell.key, {}).get(LEANS)
    return found


def _means(question: Mapping[str, Any]) -> F64:
    """The mean of both orders, for each wording."""
    return np.array([np.mean(orders) for orders in question["raw"]])


def _content(leans: Mapping[str, Any]) -> F64:
    mean: F64 = (_means(leans[QUESTION]) + _means(leans[MIRRORED])) / 2
    return mean


def _towards_first(question: Mapping[str, Any]) -> F64:
    return np.array([(one - other) / 2 for one, other in question["raw"]])
