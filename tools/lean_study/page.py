"""The tables and the plot of docs/eternal-life.md, rewritten from the results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from franken_gguf.quantize.common.files import replacing
from lean_study.cells import (
    BATCH,
    CONTROLS,
    GROUP_RUNGS,
    IMATRIX,
    MODELS,
    QUESTION,
    is_done,
    steps,
)
from lean_study.plot import Curve, lean_plot
from lean_study.summary import Results, control_lean, measured
from lean_study.tables import (
    answers_table,
    controls_table,
    groups_table,
    leans_table,
    mixtures_table,
    sampled_table,
    variants_table,
    words_table,
)
from lean_study.verdict import group_verdict, mixture_verdict, variant_verdict, verdict

_DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE, PLOT = _DOCS / "eternal-life.md", _DOCS / "eternal-life.svg"
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
        "leans": leans_table,
        "answers": answers_table,
        "controls": controls_table,
        "groups": groups_table,
        "variants": variants_table,
        "sampled": sampled_table,
        "mixtures": mixtures_table,
        "words": words_table,
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

    mirrored, *others = CONTROLS
    with_bands = [curve(name, has_band=True) for name in (QUESTION, mirrored)]
    dashed = [curve(name, has_band=False) for name in others]
    return lean_plot(
        [*with_bands, *dashed], "Log-odds of each question's first option by bits for a weight"
    )


def _bullets(sentences: Iterable[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)


def _progress(results: Results) -> str:
    wanted = list(dict.fromkeys(steps()))
    done = [step for step in wanted if is_done(results, step)]
    drawn, planned = (BATCH * sum(QUESTION in name for _, name in some) for some in (done, wanted))
    return (
        f"Measured so far: {len(done)} of {len(wanted)} steps; of the answers to {QUESTION}, "
        f"{drawn:,} of {planned:,}.\n"
    )
