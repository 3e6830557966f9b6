"""The reports of `franken-gguf compare`: checked before it begins, written at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import click
from rich.console import Console

from franken_gguf.runner.compare.measure.tasks import CompareError
from franken_gguf.runner.compare.measure.workspace import replacing
from franken_gguf.runner.compare.report.page import page
from franken_gguf.runner.compare.report.table_csv import as_csv
from franken_gguf.runner.compare.results.document import Comparison, as_json
from franken_gguf.runner.ui import convert_screen

STANDARD_OUTPUT = Path("-")

Reports = Mapping[Path, Callable[[Comparison], str]]
"""What to write to each file."""


def planned_reports(
    json_file: Path | None, csv_file: Path | None, html_file: Path | None, *, overwrite: bool
) -> Reports:
    """The reports that are asked for, checked. Raises CompareError, click.UsageError."""
    asked_for = ((json_file, _document), (csv_file, as_csv), (html_file, page))
    reports = {path: content for path, content in asked_for if path}
    if len(reports) < sum(path is not None for path, _ in asked_for):
        raise click.UsageError("--json, --csv and --report must be different files")
    _check_reports(reports, overwrite)
    return reports


def _check_reports(reports: Reports, overwrite: bool) -> None:
    """Refuse output paths that cannot be written before hours of work, not after."""
    for path in reports:
        if path == STANDARD_OUTPUT:
            continue
        if path.is_dir():
            raise CompareError(f"{path}: is a directory; give a file name")
        if not path.parent.is_dir():
            raise CompareError(f"{path}: there is no folder {path.parent}; create it first")
        if path.exists() and not overwrite:
            raise CompareError(f"{path}: already exists; --overwrite replaces it")


def _document(comparison: Comparison) -> str:
    return json.dumps(as_json(comparison), indent=2, ensure_ascii=False) + "\n"


def write_reports(reports: Reports, comparison: Comparison, notices: Console) -> None:
    """Write all reports and print their paths. Raises OSError."""
    for path, content in reports.items():
        if path == STANDARD_OUTPUT:
            click.echo(content(comparison), nl=False)
        else:
            with replacing(path) as part:
                part.write_text(content(comparison), encoding="utf-8", errors="backslashreplace")
            convert_screen.say(notices, f"written: {path}")
