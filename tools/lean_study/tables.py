"""The tables of docs/eternal-life.md, in Markdown, made of the results. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from franken_gguf.runner.compare.results.metrics import Interval
from lean_study.cells import (
    BATCH,
    CONTROLS,
    FILE,
    GROUP_RUNGS,
    GROUPS,
    IMATRIX,
    MODELS,
    OTHERS,
    PLAIN,
    QUESTION,
    SIZE,
    VARIANTS,
    Cell,
    baseline,
    samples,
)
from lean_study.summary import (
    Results,
    batches,
    control_change,
    control_lean,
    divergence,
    leaning,
    measured,
    moved,
    same_experts,
    sampled,
)

_QUOTED, _LONGEST_QUOTE = 2, 150
"""Answers shown of each quant, and their characters."""
_MARKDOWN = re.compile(r"[\\`*_{}\[\]()<>#&|~]")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], alignment: str = "---:") -> str:
    rule = ["---", *[alignment] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def leans_table(results: Results) -> str:
    """The demo with an importance matrix: leans, sampled answers, and distance from F16."""
    head = (
        *("quant", "bits/weight", "lean", "change", "change without length", "to the shorter"),
        *("to the first", "sampled answers", "KL divergence", "same experts"),
    )
    rows = []
    for cell in measured(results, "demo", IMATRIX):
        one = leaning(results, cell)
        if one is None:
            continue
        rows.append(
            (
                cell.rung,
                _bits(results, cell),
                _interval(one.lean),
                _change(one.change),
                _change(one.content_change),
                _interval(one.shorter),
                _interval(one.first),
                _share(*sampled(results, cell, QUESTION)),
                _divergence(results, cell),
                _percent(same_experts(results, cell)),
            )
        )
    return _table(head, rows)


def answers_table(results: Results) -> str:
    """What the demo answers at each quant."""
    rows = []
    names = [samples(QUESTION, number) for number in range(_QUOTED)]
    for cell in measured(results, "demo", IMATRIX):
        found = [results[cell.key].get(name, {}).get("first_answer", "") for name in names]
        if any(found):
            rows.append((cell.rung, *map(_quoted, found)))
    head = ("quant", *(f"seed {BATCH * number}" for number in range(_QUOTED)))
    return _table(head, rows, "---")


def _quoted(text: str) -> str:
    """The beginning of a model's answer, harmless in a table."""
    words = " ".join(text.split())
    cut = words if len(words) <= _LONGEST_QUOTE else words[:_LONGEST_QUOTE].rstrip() + " ..."
    printable = "".join(letter for letter in cut if letter.isprintable())
    return _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable)


def controls_table(results: Results) -> str:
    """F16's lean on each control, and what each quant changes."""
    some = measured(results, "demo", IMATRIX)
    rows = []
    for cell in some:
        is_base = cell == baseline(cell.model)
        of = control_lean if is_base else control_change
        rows.append((cell.rung, *(_change(of(results, cell, name)) for name in CONTROLS)))
    return _table(("quant", *CONTROLS), rows)


def groups_table(results: Results) -> str:
    """What changes if one group of tensors is rounded alone."""
    rows = []
    for rung in GROUP_RUNGS:
        for variant in (*GROUPS, IMATRIX, FILE):
            cell = Cell("demo", variant, rung)
            one = leaning(results, cell)
            if one is None:
                continue
            name = {IMATRIX: "everything", FILE: "everything, real file"}.get(variant, variant)
            rows.append(
                (
                    f"{rung}, {name}",
                    _change(one.change),
                    _change(one.content_change),
                    _divergence(results, cell),
                    _percent(same_experts(results, cell)),
                )
            )
    head = ("rounded", "change", "change without length", "KL divergence", "same experts")
    return _table(head, rows)


def variants_table(results: Results) -> str:
    """Changes and KL divergence of the demo with and without a matrix, and with --target-size."""
    rows = []
    for first in measured(results, "demo", IMATRIX):
        some = [Cell("demo", variant, first.rung) for variant in VARIANTS]
        if first != baseline("demo") and any(leaning(results, cell) for cell in some[1:]):
            found = [leaning(results, cell) for cell in some]
            changes = [_change(one.content_change) if one else "" for one in found]
            rows.append((first.rung, *changes, *(_divergence(results, cell) for cell in some)))
    head = ("quant", *(f"change, {v}" for v in VARIANTS), *(f"KL, {v}" for v in VARIANTS))
    return _table(head, rows)


def sampled_table(results: Results) -> str:
    """How many sampled answers choose eternal life, in every cell that has some."""
    rows = []
    for model in MODELS:
        for first in measured(results, model, IMATRIX):
            some = [Cell(model, variant, first.rung) for variant in VARIANTS]
            counts = [_share(*sampled(results, cell, QUESTION)) for cell in some]
            if any(counts):
                rows.append((f"{model}, {first.rung}", *counts))
    return _table(("mixture and quant", *VARIANTS), rows)


def mixtures_table(results: Results) -> str:
    """The three mixtures side by side."""
    rows = []
    for model in MODELS:
        for cell in measured(results, model, IMATRIX):
            one = leaning(results, cell)
            if one:
                others = [leaning(results, Cell(model, v, cell.rung)) for v in (PLAIN, SIZE)]
                changes = [_change(way.content_change) if way else "" for way in (one, *others)]
                figures = _interval(one.lean), *changes, _divergence(results, cell)
                rows.append((f"{model}, {cell.rung}", *figures))
    changed = (f"change, {variant}" for variant in VARIANTS)
    return _table(("mixture and quant", "lean, imatrix", *changed, "KL, imatrix"), rows)


def words_table(results: Results) -> str:
    """How varied the words of haiku and stories are."""
    rows = []
    for cell in measured(results, "demo", IMATRIX):
        haiku, story = (batches(results, cell, name) for name in OTHERS)
        if haiku or story:
            both = haiku + story
            means = {
                key: np.mean([one[key] for one in both])
                for key in ("distinct_2", "repetition", "vocabulary")
            }
            rows.append(
                (
                    cell.rung,
                    str(BATCH * len(both)),
                    f"{sum(one['haiku'] for one in haiku)} of {BATCH * len(haiku)}",
                    f"{means['distinct_2']:.2f}",
                    f"{100 * means['repetition']:.1f} %",
                    f"{means['vocabulary']:.0f}",
                )
            )
    head = ("quant", "answers", "5-7-5", "distinct 2-grams", "repeated 4-grams", "vocabulary")
    return _table(head, rows)


def _float_bits(results: Results, cell: Cell) -> float:
    entry: dict[str, Any] = results.get(cell.key, {})
    return float(entry.get("bits", 0.0))


def _bits(results: Results, cell: Cell) -> str:
    return f"{_float_bits(results, cell):.2f}"


def _interval(one: Interval | None) -> str:
    return "" if one is None else f"{one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


def _change(one: Interval | None) -> str:
    """An interval, in bold if it excludes 0."""
    value, _, rest = _interval(one).partition(" ")
    return f"**{value}** {rest}" if moved(one) else f"{value} {rest}"


def _share(chosen: int, count: int, share: Interval) -> str:
    if not count:
        return ""
    return f"{chosen} of {count} ({100 * share.low:.0f} to {100 * share.high:.0f} %)"


def _divergence(results: Results, cell: Cell) -> str:
    one = divergence(results, cell)
    return "" if one is None else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
