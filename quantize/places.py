"""Whether outputs may be written where they are to go. Looks, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import OutputError
from .journal import is_journal
from .output import Output
from .source import Source


def refuse_early(outputs: Sequence[Output], source: Source, *, overwrite: bool) -> None:
    """Raise the OutputErrors that can be foreseen, before work that PendingOutputs comes after."""
    for output in outputs:
        check_place(output, source.files)
        if not (overwrite or journal_of(output).exists()):
            for shard in output.shards:
                if shard.path.exists():
                    raise taken(shard.path)


def journal_of(output: Output) -> Path:
    """Where the journal of an output is."""
    return Path(f"{output.path}.journal")


def part_of(path: Path) -> Path:
    """Where the file `path` is while it is written."""
    return Path(f"{path}.part")


def lock_of(output: Output) -> Path:
    """The empty file that is locked while an output is written."""
    return Path(f"{output.path}.lock")


def taken(path: Path) -> OutputError:
    """The error for a file that would be replaced."""
    return OutputError(f"{path}: exists already; add --overwrite to replace it")


def check_place(output: Output, source_files: set[Path]) -> None:
    """Raise OutputError for a folder that cannot be written to, or a file that is the source."""
    folder = output.path.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: cannot be written to; choose another with -o")
    for shard in output.shards:
        if shard.path.exists() and any(shard.path.samefile(file) for file in source_files):
            raise OutputError(f"{shard.path}: is the source itself; choose another name with -o")
        if shard.path.is_dir():
            raise OutputError(f"{shard.path}: is a folder; name a file with -o")
    for path in _not_ours(output):
        raise OutputError(
            f"{path}: is in the way, and of no conversion; move it, or choose another name with -o"
        )


def _not_ours(output: Output) -> Iterator[Path]:
    """Files under our temporary names that we have not made, and would replace.

    A browser calls what it downloads NAME.gguf.part. Ours has a journal beside it, and a lock of
    ours holds nothing.
    """
    lock, journal = lock_of(output), journal_of(output)
    parts = [part for shard in output.shards if os.path.lexists(part := part_of(shard.path))]
    for path in (lock, journal, *parts):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            yield path
    if lock.is_file() and lock.stat().st_size:
        yield lock
    if not journal.is_file():
        yield from parts
    elif not parts and not is_journal(journal):
        yield journal
