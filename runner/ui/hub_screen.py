"""What is shown of a download: what comes and under which license, then how much is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from franken_gguf.runner.download.fetch_files import Report
from franken_gguf.runner.download.hub_client import endpoint
from franken_gguf.runner.download.repository import RemoteFile, Repository
from franken_gguf.runner.terminal.text import printable, size

from .convert_screen import say


def announce(notices: Console, repository: Repository, files: Sequence[RemoteFile]) -> None:
    """Show the license, and how much comes from where, before it does."""
    stated = printable(repository.license)
    terms = f"license {stated}" if stated else "no license stated"
    number = "1 file" if len(files) == 1 else f"{len(files)} files"
    total = size(sum(file.nbytes for file in files))
    say(notices, f"{repository.name}: {terms}; downloading {number}, {total}, from {endpoint()}")


@contextmanager
def fetching(notices: Console, files: Sequence[RemoteFile]) -> Iterator[Report]:
    """Yield a function that shows the bytes that have arrived, at a terminal as a bar."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    quiet = not notices.is_terminal
    with Progress(*columns, console=notices, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=sum(file.nbytes for file in files))

        def report(name: str, nbytes: int) -> None:
            progress.update(task, description=printable(name), advance=nbytes)

        yield report
