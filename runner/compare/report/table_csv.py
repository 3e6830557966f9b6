"""A comparison as CSV: a row per model, a column per figure, named as in the JSON. Pure.

Lists of objects in the JSON (sampled answers, layers) have no column.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from franken_gguf.runner.compare.results.document import Comparison, as_json
from franken_gguf.runner.terminal.text import printable

# Spreadsheets run text that begins with one of these as a formula unless an apostrophe precedes it
# (OWASP, "CSV Injection"). The last four are full-width forms, which some accept too.
_FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001 - they are meant


def as_csv(comparison: Comparison) -> str:
    """The table with its heading line; figures in full precision."""
    names = _unique([prompt.name for prompt in comparison.prompts])
    rows = []
    for document in as_json(comparison)["models"]:
        document["prompts"] = dict(zip(names, document["prompts"], strict=False))
        rows.append(dict(_cells(document)))
    fullest_first = sorted(rows, key=len, reverse=True)  # the baseline has no differences
    columns = dict.fromkeys(column for row in fullest_first for column in row)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_text, columns))
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    return file.getvalue()


def _cells(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Column names and values: scalars, and lists of numbers joined by spaces."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _cells(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        if value and all(isinstance(one, (int, float)) for one in value):
            yield path, " ".join(map(str, value))
    elif isinstance(value, str):
        yield path, _text(value)
    elif value is not None:
        yield path, value


def _text(text: str) -> str:
    shown = printable(text, keep="\n")
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def _unique(names: Sequence[str]) -> list[str]:
    """The names, repeated ones numbered, since each begins the names of its own columns."""
    return [
        f"{name} #{names[:place].count(name) + 1}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
