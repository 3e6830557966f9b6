"""Whether outputs may be written where they are to go. Looks, and changes nothing."""

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
    """Raise the OutputErrors that can be foreseen, before work that PendingOutputs comes after."""
    for output in outputs:
        check_place(output, source.files)
    if overwrite or any(_is_begun(output) for output in outputs):
        return  # an earlier run may have ended while it gave the files their names
    for output in outputs:
        for shard in output.shards:
            if shard.path.exists():
                raise taken(shard.path)


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
    for path in _not_ours(output):
        raise OutputError(
            f"{path}: exists but was not created by franken-gguf; move it, or choose another name "
            "with -o"
        )


def _is_begun(output: Output) -> bool:
    return journal_of(output.path).exists() or lock_of(output.path).exists()


def _not_ours(output: Output) -> Iterator[Path]:
    """Files under our temporary names that we have not made, and would replace.

    A killed run can leave, in the order in which they come into being: the lock, which holds
    nothing; the beginning of a journal; a journal; parts, with a journal beside them until they
    have their final names. Others use these names, too: browsers call a download NAME.gguf.part.
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
