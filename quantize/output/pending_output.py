"""One output while it is written: its lock, its parts and its journal, and what a killed run left.

A killed run leaves one of these, and `PendingOutput` takes each up from there:

    lock                          nothing is begun
    lock, NAME.journal.part       nothing is begun; what is in the way is deleted
    lock, journal, any parts      rows up to the journal's position are in the parts; where one is
                                  missing or short, none are
    lock, journal that says so    all is complete, some parts have their final names
    lock, final names             done, or another output of the command still has its journal
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import sync_folder

from .jobs import START, Position
from .journal import Identity, Journal
from .output import Output
from .output_names import journal_of, lock_of, part_of


class PendingOutput:
    """One output, locked: its parts and its journal. Raises OutputError, OSError."""

    def __init__(self, output: Output, expected: Identity) -> None:
        self.output = output
        self._lock = _locked(output)
        self.journal = Journal(journal_of(output.path), expected)
        part_of(self.journal.path).unlink(missing_ok=True)

    def is_named(self, others: bool) -> bool:
        """Whether the last run ended while it gave this output's files, all complete, their names.

        `others` is whether another output's journal says that all of this command's are complete:
        then an output without a journal is one that was done with.
        """
        was_complete = self.journal.complete or (others and not self.journal.exists())
        return bool(was_complete) and all(
            _has_size(part if (part := part_of(shard.path)).exists() else shard.path, shard.nbytes)
            for shard in self.output.shards
        )

    def to_replace(self, *, named: bool) -> list[Path]:
        """Existing files that would be replaced by parts that are there or to come."""
        finals = [shard.path for shard in self.output.shards if shard.path.exists()]
        return [final for final in finals if not named or part_of(final).exists()]

    @property
    def missing_bytes(self) -> int:
        """What it will take on the disk beyond what its parts take there already."""
        parts = [part_of(shard.path) for shard in self.output.shards]
        taken = sum(_allocated(part) for part in parts if part.exists())
        return max(0, self.output.nbytes - taken)

    def prepare(self, end: Position) -> None:
        """Be ready for rows from `journal.position` on: at the start where there is no part."""
        parts = [(part_of(shard.path), shard.nbytes) for shard in self.output.shards]
        is_whole = all(_has_size(part, nbytes) for part, nbytes in parts)
        if is_whole and START < self.journal.position <= end:
            return
        self.journal.begin()
        for shard in self.output.shards:
            with part_of(shard.path).open("wb") as file:
                file.write(shard.header)
                file.truncate(shard.nbytes)

    def sync(self, position: Position) -> None:
        """Bring what was written to the disk, then note in the journal that it is."""
        if position <= self.journal.position:
            return
        for shard in self.output.shards:
            with part_of(shard.path).open("rb+") as file:
                os.fsync(file.fileno())
        self.journal.advance(position)

    def rename(self) -> None:
        """Give the complete parts their final names."""
        for shard in self.output.shards:
            if part_of(shard.path).exists():
                part_of(shard.path).replace(shard.path)
        sync_folder(self.output.path.parent)

    def discard(self) -> None:
        """Delete the parts and the journal, which stays as long as there is a part."""
        if self.journal.exists():
            self.journal.forget()
        for shard in self.output.shards:
            part_of(shard.path).unlink(missing_ok=True)
        sync_folder(self.output.path.parent)
        self.journal.delete()

    def release(self) -> None:
        """Close the journal and let others write this output."""
        self.journal.close()
        # While it is held, or another process may lock a file that is about to go. Windows, which
        # refuses that, deletes it on release.
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()


def _locked(output: Output) -> FileLock:
    """The lock on an output, taken. Raises OutputError where another has it, OSError."""
    path = lock_of(output.path)
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        try:
            lock.acquire()
        except Timeout:
            path.touch()  # where no file can be made there may be an OSError, or a time-out
            raise OutputError(
                f"{output.path}: another convert is writing it; wait for it, or choose another "
                "name with -o"
            ) from None
    except OSError as error:
        if path.exists():
            raise
        raise OutputError(
            f"{path.parent}: cannot be written to ({error.strerror}); choose another with -o"
        ) from None
    return lock


def _has_size(path: Path, nbytes: int) -> bool:
    return path.is_file() and path.stat().st_size == nbytes


def _allocated(path: Path) -> int:
    """Bytes that a file, possibly with holes, takes on its disk."""
    stat = path.stat()
    blocks: int | None = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else blocks * 512
