"""The tables and the plot of docs/eternal-life.md, rewritten from the results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from franken_gguf.quantize.common.files import replacing
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
    SAMPLED,
    SIZE,
    VARIANTS,
    Cell,
    baseline,
    cells,
    is_done,
    samples,
    steps,
)
from lean_study.plot import Curve, lean_plot
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
from lean_study.verdict import group_verdict, mixture_verdict, variant_verdict, verdict

_DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE, PLOT = _DOCS / "eternal-life.md", _DOCS / "eternal-life.svg"
_QUOTED, _LONGEST_QUOTE = 2, 150
"""Answers shown of each quant, and their characters."""
_MARKDOWN = re.compile(r"[\\`*_{}\[\]()<>#&|~]")
_BLOCK = re.compile(r"(<!-- study: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def write_page(results: Results) -> None:
    """Replace what is between the page's markers, and the plot."""
    text = PAGE.read_text(encoding="utf-8")
    _write(PAGE, with_tables(text, results))
    _write(PLOT, plot(results))


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def with_tables(text: str, results: Results) -> str:
    """The page with each marked part made of the results."""
    parts: Mapping[str, Callable[[Results], str]] = {
        "verdict": lambda found: _bullets(verdict(found)),
        "groupverdict": lambda found: _bullets(group_verdict(found, GROUP_RUNGS)),
        "variantverdict": lambda found: _bullets(variant_verdict(found)),
        "mixtureverdict": lambda found: _bullets(mixture_verdict(found, list(MODELS)[1:])),
        "progress": _progress,
        "leans": _leans,
        "answers": _answers,
        "controls": _controls,
        "groups": _groups,
        "variants": _variants,
        "sampled": _sampled,
        "mixtures": _mixtures,
        "words": _words,
    }
    return _BLOCK.sub(lambda found: found[1] + parts[found[2]](results) + found[4], text)


def plot(results: Results) -> str:
    """The lean on eternal life, that on its mirror image, and the controls, of the demo."""
    some = measured(results, "demo", IMATRIX)

    def curve(name: str, *, has_band: bool) -> Curve:
        found = [
            (float(results[cell.key]["bits"]), cell.rung, control_lean(results, cell, name))
            for cell in some
        ]
        return Curve(name, [(b, r, one) for b, r, one in found if one], has_band)

    curves = [
        curve(QUESTION, has_band=True),
        *(curve(name, has_band=not n) for n, name in enumerate(CONTROLS)),
    ]
    return lean_plot(curves, "Log-odds of each question's first option by bits for a weight")


def _bullets(sentences: Iterable[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], alignment: str = "---:") -> str:
    rule = ["---", *[alignment] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def _progress(results: Results) -> str:
    wanted = list(dict.fromkeys(steps()))
    done = sum(is_done(results, step) for step in wanted)
    answers = sum(sampled(results, cell, QUESTION)[1] for cell in cells("demo", IMATRIX))
    return (
        f"Measured so far: {done} of {len(wanted)} steps; of the demo's answers to {QUESTION}, "
        f"{answers} of {SAMPLED * len(cells('demo', IMATRIX))}.\n"
    )


def _leans(results: Results) -> str:
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


def _answers(results: Results) -> str:
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


def _controls(results: Results) -> str:
    some = measured(results, "demo", IMATRIX)
    rows = []
    for cell in some:
        is_base = cell == baseline(cell.model)
        of = control_lean if is_base else control_change
        rows.append((cell.rung, *(_change(of(results, cell, name)) for name in CONTROLS)))
    return _table(("quant", *CONTROLS), rows)


def _groups(results: Results) -> str:
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


def _variants(results: Results) -> str:
    rows = []
    for first in measured(results, "demo", IMATRIX):
        some = [Cell("demo", variant, first.rung) for variant in VARIANTS]
        if first != baseline("demo") and any(leaning(results, cell) for cell in some[1:]):
            found = [leaning(results, cell) for cell in some]
            changes = [_change(one.content_change) if one else "" for one in found]
            rows.append((first.rung, *changes, *(_divergence(results, cell) for cell in some)))
    head = ("quant", *(f"change, {v}" for v in VARIANTS), *(f"KL, {v}" for v in VARIANTS))
    return _table(head, rows)


def _sampled(results: Results) -> str:
    rows = []
    for first in measured(results, "demo", IMATRIX):
        some = [Cell("demo", variant, first.rung) for variant in VARIANTS]
        counts = [_share(*sampled(results, cell, QUESTION)) for cell in some]
        if any(counts[1:]):
            rows.append((first.rung, *counts))
    return _table(("quant", *VARIANTS), rows)


def _mixtures(results: Results) -> str:
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


def _words(results: Results) -> str:
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
                    str(16 * len(both)),
                    f"{sum(one['haiku'] for one in haiku)} of {16 * len(haiku)}",
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
