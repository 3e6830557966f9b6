"""Outputs under temporary names, which take their final ones together, complete and synced.

While NAME.gguf is written there stand beside it NAME.gguf.part (one for each shard), the journal
NAME.gguf.journal, which says how far it is, and NAME.gguf.lock, so that no two write it at once.
Whatever ends a conversion leaves the first two, for the same command to go on with; only where
the source itself is at fault they go too.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from .errors import CheckpointError, OutputError, ReadError, RecipeError, VerifyError
from .files import changed_file, sync_folder
from .jobs import START, Position, weights_before
from .journal import Identity, Journal, identities
from .output import Output
from .places import check_place, journal_of, lock_of, part_of, taken
from .source import Source

# After these errors another run would end in the same way.
_AT_FAULT = CheckpointError, RecipeError, VerifyError

# Saving takes at most about a tenth of the time, and happens at most so often (seconds).
_SAVE_SHARE, _SAVE_INTERVAL = 10, 0.25


class PendingOutput:
    """One output, locked: its parts and its journal. Raises OutputError, OSError."""

    def __init__(self, output: Output, expected: Identity) -> None:
        self.output = output
        self._lock = FileLock(lock_of(output), timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"{output.path}: another convert is writing it; wait for it, or choose another "
                "name with -o"
            ) from None
        self.journal = Journal(journal_of(output), expected)

    @property
    def missing_bytes(self) -> int:
        """What it will take on the disk beyond what its parts take there already."""
        parts = [part_of(shard.path) for shard in self.output.shards]
        taken = sum(_allocated(part) for part in parts if part.exists())
        return max(0, self.output.nbytes - taken)

    def prepare(self, end: Position, *, finishing: bool) -> None:
        """Be ready for rows from `journal.position` on: at the start where there is no part.

        `finishing` is whether the last run ended while it gave this and other outputs their names.
        """
        if finishing and self._is_whole(finished=True):
            self.journal.position = end
        if START < self.journal.position <= end and self._is_whole(self.journal.position == end):
            return
        self.journal.begin()
        for shard in self.output.shards:
            with part_of(shard.path).open("wb") as file:
                file.write(shard.header)
                file.truncate(shard.nbytes)

    def _is_whole(self, finished: bool) -> bool:
        """Whether every shard has its size, under its temporary or, if `finished`, final name."""
        return all(
            _has_size(part_of(shard.path), shard.nbytes)
            or (finished and _has_size(shard.path, shard.nbytes))
            for shard in self.output.shards
        )

    def sync(self, position: Position) -> None:
        """Bring what was written to the disk, then note in the journal that it is."""
        if position <= self.journal.position:
            return
        for shard in self.output.shards:
            part = part_of(shard.path)
            if part.exists():
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
        self.journal.advance(position)

    def rename(self) -> None:
        """Give the complete parts their final names."""
        for shard in self.output.shards:
            if part_of(shard.path).exists():
                part_of(shard.path).replace(shard.path)
        sync_folder(self.output.path.parent)

    def discard(self) -> None:
        """Delete the parts and the journal."""
        self.journal.close()
        for shard in self.output.shards:
            part_of(shard.path).unlink(missing_ok=True)
        self.journal.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Close the journal and let others write this output."""
        self.journal.close()
        # While it is held, or another process may lock a file that is about to go. Windows, which
        # refuses that, deletes it on release.
        with suppress(OSError):
            Path(self._lock.lock_file).unlink()
        self._lock.release()


class PendingOutputs:
    """All outputs of a conversion, from their first byte to their final names; a `with` statement.

    `say` gets a line where the work of an earlier run is gone on with, or cannot be. Raises
    OutputError where something would be overwritten, cannot be written, or does not fit the disk.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        source: Source,
        *,
        overwrite: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._source = source
        self._overwrite = overwrite
        self._say = say
        self._outputs = outputs
        self._pending: list[PendingOutput] = []
        self._end: Position = (len(source.tensors), 0)
        self._settled = START
        self._saver = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        self._next_save = time.monotonic() + _SAVE_INTERVAL
        self._resources = ExitStack()

    @property
    def positions(self) -> list[Position]:
        """Of each output: every row before it is written."""
        return [pending.journal.position for pending in self._pending]

    def __enter__(self) -> PendingOutputs:
        try:
            for output in self._outputs:
                check_place(output, self._source.files)
            for output, expected in zip(
                self._outputs,
                identities(self._source.stamps, self._outputs, self._source.fingerprint),
                strict=True,
            ):
                self._pending.append(PendingOutput(output, expected))
                self._resources.callback(self._pending[-1].release)
            self._prepare()
        except BaseException as error:
            self._resources.close()
            if not isinstance(error, OSError):
                raise
            raise OutputError(
                f"{error.filename}: {error.strerror}; choose another with -o"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._resources:
            self._saver.shutdown(wait=True)
            if isinstance(error, _AT_FAULT) and not isinstance(error, ReadError):
                for pending in self._pending:
                    pending.discard()
            elif error is not None:
                with suppress(OSError):
                    self._save(self._settled)
        if isinstance(error, OSError):
            raise OutputError(f"{error.filename or 'output'}: {error.strerror}") from None

    def files(self, output: Output) -> list[Path]:
        """Where the shards of `output` are now."""
        parts = [(part_of(shard.path), shard.path) for shard in output.shards]
        return [part if part.exists() else final for part, final in parts]

    def settle(self, position: Position) -> None:
        """Every row before `position` is written; now and then that is made to last."""
        self._settled = position
        if self._saving is not None:
            if not self._saving.done():
                return
            self._saving.result()
        if time.monotonic() >= self._next_save:
            self._saving = self._saver.submit(self._save, position)

    def commit(self) -> None:
        """Give every file its final name, unless the source is no longer what was read."""
        if (changed := changed_file(self._source.stamps)) is not None:
            raise CheckpointError(
                f"{changed}: changed while it was read; nothing was replaced, run the same command "
                "again"
            )
        self._save(self._end)
        for pending in self._pending:
            pending.rename()
        for pending in self._pending:
            pending.discard()

    def _prepare(self) -> None:
        finishing = any(
            pending.journal.position == self._end and pending.journal.is_same_command
            for pending in self._pending
        )
        for pending in self._pending:
            for shard in pending.output.shards:
                if shard.path.exists() and not (self._overwrite or finishing):
                    raise taken(shard.path)
        _check_space(self._pending)
        for pending in self._pending:
            if pending.journal.refusal:
                self._say(f"{pending.output.path}: {pending.journal.refusal}; starting over")
            pending.prepare(self._end, finishing=finishing)
            done = weights_before(self._source.tensors, pending.journal.position)
            if done:
                total = weights_before(self._source.tensors, self._end)
                self._say(f"{pending.output.path}: going on from {100 * done // total} %")

    def _save(self, position: Position) -> None:
        started = time.monotonic()
        for pending in self._pending:
            pending.sync(position)
        ended = time.monotonic()
        self._next_save = ended + max(_SAVE_INTERVAL, _SAVE_SHARE * (ended - started))


def _check_space(pending: Sequence[PendingOutput]) -> None:
    needed: dict[int, int] = {}
    for one in pending:
        folder = one.output.path.parent
        disk = folder.stat().st_dev
        needed[disk] = needed.get(disk, 0) + one.missing_bytes
        free = shutil.disk_usage(folder).free
        if needed[disk] > free:
            raise OutputError(
                f"{folder}: {needed[disk]:,} bytes needed, {free:,} free; make room or choose "
                "another folder with -o"
            )


def _has_size(path: Path, nbytes: int) -> bool:
    return path.is_file() and path.stat().st_size == nbytes


def _allocated(path: Path) -> int:
    """Bytes that a file, possibly with holes, takes on its disk."""
    stat = path.stat()
    blocks: int | None = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else blocks * 512
