"""convert --dry-run --report: the page of sizes and what they cost, written to a file."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import replacing
from franken_gguf.quantize.target_size.frontier import FrontierPoint
from franken_gguf.runner.compare.report.frontier_page import frontier_page


def check_report(path: Path, *, wanted: bool, overwrite: bool) -> None:
    """Refuse a report that there is nothing for, or that must not be written."""
    if not wanted:
        raise click.UsageError("--report needs --dry-run and --target-size or --target-bpw")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: already exists; choose another name, or add --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; create it first")


def write_report(
    path: Path, source: Path, imatrix: Path | None, points: Sequence[FrontierPoint]
) -> None:
    """Write the page. Raises OutputError."""
    words = ["franken-gguf", "convert", str(source)]
    words += ["--imatrix", str(imatrix)] if imatrix else []
    try:
        with replacing(path) as part:
            part.write_text(frontier_page(source.name, points, shlex.join(words)), "utf-8")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; make room or choose another place") from None
