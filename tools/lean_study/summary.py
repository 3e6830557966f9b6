"""What the study's results mean: leans, what they are made of, and whether they moved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.runner.compare.results.metrics import Interval, bootstrap, wilson
from lean_study.cells import (
    CONTROLS,
    LEANS,
    QUESTION,
    TEXT,
    Cell,
    baseline,
    cells,
)

F64 = NDArray[np.float64]
Results = Mapping[str, Any]

MIRRORED = CONTROLS[0]


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
