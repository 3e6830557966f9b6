"""A comparison as one self-contained HTML page: no network, no scripts, no fonts. Pure.

Text from models, prompts and file names is untrusted: Jinja escapes it, invisible characters are
written as escapes, and the page's policy forbids everything except its own style sheet.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from franken_gguf.runner.compare.results.conclusion import baseline, yardstick
from franken_gguf.runner.compare.results.document import (
    FEWEST_PARAPHRASES,
    FEWEST_SAMPLES,
    Comparison,
)
from franken_gguf.runner.terminal.text import printable, size

from .page_parts import (
    answers,
    figure_tables,
    kld_figure,
    lean_figures,
    result_of,
    routing_figures,
    settings,
    verdicts,
)

# Line ends and joiners of letters and emoji; other invisible characters become escapes.
_KEPT = "\n\u200c\u200d"


def page(comparison: Comparison) -> str:
    """The whole page; the same comparison gives the same bytes."""
    style = resource("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            comparison=comparison,
            base=baseline(comparison),
            style=style,
            policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'",
            yardstick=yardstick(comparison),
            result_of=result_of,
            verdicts=verdicts(comparison),
            fewest_paraphrases=FEWEST_PARAPHRASES,
            fewest_samples=FEWEST_SAMPLES,
            kld=kld_figure(comparison),
            leans=list(lean_figures(comparison)),
            routing=routing_figures(comparison),
            answers=[answers(comparison, number) for number in range(len(comparison.prompts))],
            tables=list(figure_tables(comparison)),
            settings=list(settings(comparison)),
        )
    )


@cache
def environment() -> Environment:
    """What renders this room's templates: everything is escaped unless marked as safe."""
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(resource),
        finalize=_shown,
    )
    made.filters |= {"size": size, "file_name": lambda path: PurePath(path).name}
    return made


def resource(name: str) -> str:
    """The text of a file of this room."""
    return (files(__package__) / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    # Markup, which this package makes, is a subclass of str and is left as it is.
    if type(value) is not str:
        return value
    return printable(value.replace("\r\n", "\n").expandtabs(), _KEPT)
