"""Checks that outputs can be written to their paths. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import OutputError

from .journal import is_journal, is_unfinished_journal
from .output import Output
from .output_names import journal_of, lock_of, part_of


def refuse_early(outputs: Sequence[Output], source: Source, *, overwrite: bool) -> None:
    """Raise the OutputErrors of PendingOutputs that can be foreseen, before expensive work."""
    for output in outputs:
        check_destination(output, source.files)
    if overwrite or any(_has_begun(output) for output in outputs):
        return  # an earlier run can have ended while it renamed the files
    for output in outputs:
        for shard in output.shards:
            if shard.path.exists():
                raise already_exists(shard.path)


def already_exists(path: Path) -> OutputError:
    """The error for an existing file that would be replaced."""
    return OutputError(f"{path}: exists already; add --overwrite to replace it")


def check_destination(output: Output, source_files: set[Path]) -> None:
    """Raise OutputError if the folder is not writable, or a path is in use by something else."""
    folder = output.path.parent
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: cannot be written to; choose another with -o")
    try:
        _check_files(output, source_files)
    except OSError as error:
        raise OutputError(f"{error.filename}: {error.strerror}; choose another with -o") from None


def _check_files(output: Output, source_files: set[Path]) -> None:
    for shard in output.shards:
        if shard.path.exists() and any(shard.path.samefile(file) for file in source_files):
            raise OutputError(f"{shard.path}: is the source itself; choose another name with -o")
        if shard.path.is_dir():
            raise OutputError(f"{shard.path}: is a folder; name a file with -o")
    for path in _foreign_files(output):
        raise OutputError(
            f"{path}: exists but was not created by franken-gguf; move it, or choose another name "
            "with -o"
        )


def _has_begun(output: Output) -> bool:
    return journal_of(output.path).exists() or lock_of(output.path).exists()


def _foreign_files(output: Output) -> Iterator[Path]:
    """Files of other programs under our temporary names, which we would replace.

    A killed run of ours can leave, in the order in which they are created: the lock, which is
    empty; the beginning of a journal; a journal; parts, with a journal next to them until they
    have their final names. Other programs use these names too: browsers download to NAME.gguf.part.
    """
    lock, journal = lock_of(output.path), journal_of(output.path)
    parts = [part for shard in output.shards if os.path.lexists(part := part_of(shard.path))]
    if os.path.lexists(lock) and not (_is_file(lock) and lock.stat().st_size == 0):
        yield lock
    begun = part_of(journal)
    if os.path.lexists(begun) and not (_is_file(begun) and is_unfinished_journal(begun)):
        yield begun
    if not os.path.lexists(journal):
        yield from parts
    elif not (_is_file(journal) and is_journal(journal)):
        yield journal
    yield from (part for part in parts if not _is_file(part))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
