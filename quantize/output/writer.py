"""Writes all outputs under temporary names and renames them together, complete and synced.

While NAME.gguf is written, there are next to it NAME.gguf.part (one for each shard), the journal
NAME.gguf.journal with the progress, and NAME.gguf.lock, so that only one process writes it. If a
conversion is interrupted, the first two stay, and the same command resumes from them; they are
deleted only if the source itself is at fault. At the end all parts are synced, all journals record
that all outputs are complete, the parts are renamed, the journals deleted, and then the locks.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import (
    CheckpointError,
    OutputError,
    ReadError,
    RecipeError,
    VerifyError,
)
from franken_gguf.quantize.common.files import changed_file

from .jobs import START, Position, weights_before
from .journal import command_digest, identities
from .output import Output
from .output_names import part_of
from .output_paths import already_exists, check_destination
from .pending_output import PendingOutput

# After these errors another run would fail in the same way.
_FINAL_ERRORS = CheckpointError, RecipeError, VerifyError

SAVE_SECONDS = 0.25
# The next save waits at least this many times as long as the last one took.
_SAVE_PAUSE = 10


class PendingOutputs:
    """Context manager for all outputs of a conversion, from the first byte to their final names.

    `notify` gets a line if an earlier run is resumed, or cannot be. Progress is saved every
    `save_seconds` or more, in the background; with 0 after every job, before the next. Raises
    OutputError if a file would be overwritten, cannot be written, or does not fit on the disk.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        source: Source,
        *,
        overwrite: bool = False,
        save_seconds: float = SAVE_SECONDS,
        notify: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._source = source
        self._overwrite = overwrite
        self._notify = notify
        self._outputs = outputs
        self._pending: list[PendingOutput] = []
        self._command = command_digest(outputs)
        self._end: Position = (len(source.tensors), 0)
        self._settled = START
        self._saver = ThreadPoolExecutor(1)
        self._saving: Future[None] | None = None
        self._save_seconds = save_seconds
        self._next_save = time.monotonic() + save_seconds
        self._resources = ExitStack()

    @property
    def positions(self) -> list[Position]:
        """The progress of each output: every row before its position is written."""
        return [pending.journal.position for pending in self._pending]

    def __enter__(self) -> PendingOutputs:
        try:
            for output in self._outputs:
                check_destination(output, self._source.files)
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
            if isinstance(error, _FINAL_ERRORS) and not isinstance(error, ReadError):
                for pending in self._pending:
                    pending.discard()
            elif error is not None:
                with suppress(OSError):
                    self._save(self._settled)
        if isinstance(error, OSError):
            raise OutputError(f"{error.filename or 'output'}: {error.strerror}") from None

    def files(self, output: Output) -> list[Path]:
        """The current paths of the shards of `output`."""
        parts = [(part_of(shard.path), shard.path) for shard in output.shards]
        return [part if part.exists() else final for part, final in parts]

    def settle(self, position: Position) -> None:
        """Note that every row before `position` is written; save that periodically."""
        self._settled = position
        if self._save_seconds == 0:
            self._save(position)
        elif self._saving is not None and not self._saving.done():
            return
        elif time.monotonic() >= self._next_save:
            self._finish_saving()
            self._saving = self._saver.submit(self._save, position)

    def commit(self) -> None:
        """Rename every file. Raises CheckpointError if the source changed since it was read."""
        if (changed := changed_file(self._source.stamps)) is not None:
            raise CheckpointError(
                f"{changed}: changed while it was read; nothing was replaced, run the same command "
                "again"
            )
        self._finish_saving()  # otherwise it could write to a deleted journal
        self._save(self._end)
        for pending in self._pending:
            if pending.journal.exists():  # not for outputs that an earlier run finished
                pending.journal.note_complete(self._command)
        for pending in self._pending:
            pending.rename()
        for pending in self._pending:
            pending.journal.delete()

    def _prepare(self) -> None:
        complete = any(pending.journal.complete == self._command for pending in self._pending)
        unfinished = [pending for pending in self._pending if not pending.is_complete(complete)]
        for pending in self._pending:
            replaced = pending.replaced_files(complete=pending not in unfinished)
            if replaced and not self._overwrite:
                raise already_exists(replaced[0])
        _check_space(unfinished)
        for pending in self._pending:
            if pending.journal.refusal:
                self._notify(f"{pending.output.path}: {pending.journal.refusal}; starting over")
            if pending in unfinished:
                pending.prepare(self._end)
            else:
                pending.journal.position = self._end
            done = weights_before(self._source.tensors, pending.journal.position)
            if done:
                total = weights_before(self._source.tensors, self._end)
                self._notify(f"{pending.output.path}: resuming at {100 * done // total} %")

    def _save(self, position: Position) -> None:
        started = time.monotonic()
        for pending in self._pending:
            pending.sync(position)
        ended = time.monotonic()
        self._next_save = ended + max(self._save_seconds, _SAVE_PAUSE * (ended - started))

    def _finish_saving(self) -> None:
        """Wait for the save in the background. Raises its errors."""
        if self._saving is not None:
            self._saving.result()


def _check_space(pending: Sequence[PendingOutput]) -> None:
    needed: dict[int, int] = {}
    for item in pending:
        folder = item.output.path.parent
        disk = folder.stat().st_dev
        needed[disk] = needed.get(disk, 0) + item.missing_bytes
        free = shutil.disk_usage(folder).free
        if needed[disk] > free:
            raise OutputError(
                f"{folder}: {needed[disk]:,} bytes needed, {free:,} free; make room, or "
                "choose another folder with -o"
            )
