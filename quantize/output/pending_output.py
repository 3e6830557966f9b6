"""One output while it is written: its lock, its parts and its journal, also of a killed run.

A killed run leaves one of these states, from which `PendingOutput` resumes:

    lock                          nothing was written yet
    lock, NAME.journal.part       nothing was written yet; the incomplete journal is deleted
    lock, journal, any parts      the parts have all rows before the journal's position; if a part
                                  is missing or short, the output is started over
    lock, complete journal        everything is written, some parts have their final names
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
        self._lock = _lock(output)
        self.journal = Journal(journal_of(output.path), expected)
        part_of(self.journal.path).unlink(missing_ok=True)

    def is_complete(self, others: bool) -> bool:
        """Whether the last run wrote all of this output, and only renaming may be left.

        `others` is whether the journal of any output records that all outputs of this command are
        complete; then an output without a journal is finished.
        """
        was_complete = self.journal.complete or (others and not self.journal.exists())
        return bool(was_complete) and all(
            _has_size(part if (part := part_of(shard.path)).exists() else shard.path, shard.nbytes)
            for shard in self.output.shards
        )

    def replaced_files(self, *, complete: bool) -> list[Path]:
        """Existing files that the parts, present or still to be written, would replace."""
        finals = [shard.path for shard in self.output.shards if shard.path.exists()]
        return [final for final in finals if not complete or part_of(final).exists()]

    @property
    def missing_bytes(self) -> int:
        """Bytes of disk space that it needs beyond what its parts already take."""
        parts = [part_of(shard.path) for shard in self.output.shards]
        allocated = sum(_allocated(part) for part in parts if part.exists())
        return max(0, self.output.nbytes - allocated)

    def prepare(self, end: Position) -> None:
        """Prepare the parts for rows from `journal.position` on; start over if any is missing."""
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
        """Sync the parts, then record in the journal that rows before `position` are on disk."""
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
        """Delete the parts, then the journal."""
        if self.journal.exists():
            self.journal.reset()
        for shard in self.output.shards:
            part_of(shard.path).unlink(missing_ok=True)
        sync_folder(self.output.path.parent)
        self.journal.delete()

    def release(self) -> None:
        """Close the journal and release the lock."""
        self.journal.close()
        # Delete it before releasing it, or another process could lock a file that is about to be
        # deleted. Windows does not allow that; there, release() deletes the file.
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()


def _lock(output: Output) -> FileLock:
    """Lock an output. Raises OutputError if another process has it locked, OSError."""
    path = lock_of(output.path)
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        try:
            lock.acquire()
        except Timeout:
            path.touch()  # in a read-only folder filelock can raise Timeout; this raises OSError
            raise OutputError(
                f"{output.path}: another convert is writing it; wait until it ends, or choose "
                "another name with -o"
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
    """Bytes that a file, possibly sparse, takes on the disk."""
    stat = path.stat()
    blocks: int | None = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else blocks * 512
