"""Outputs under temporary names, which take their final ones together, complete and synced.

While NAME.gguf is written there stand beside it NAME.gguf.part (one for each shard), the journal
NAME.gguf.journal, which says how far it is, and NAME.gguf.lock, so that no two write it at once.
Whatever ends a conversion leaves the first two, and the same command resumes from them; only where
the source itself is at fault they go too. At the end: all parts are on the disk, all journals say
that all are complete, the parts get their names, the journals go, and then the locks.
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
from .output_paths import check_place, taken
from .pending_output import PendingOutput

# After these errors another run would end in the same way.
_AT_FAULT = CheckpointError, RecipeError, VerifyError

SAVE_SECONDS = 0.25
# Saving takes at most about a tenth of the time.
_SAVE_SHARE = 10


class PendingOutputs:
    """All outputs of a conversion, from their first byte to their final names; a `with` statement.

    `say` gets a line where the work of an earlier run is resumed, or cannot be. What is written is
    saved every `save_seconds` or more, beside the work; with 0 after every job, before the next.
    Raises OutputError where something would be overwritten, cannot be written, or does not fit the
    disk.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        source: Source,
        *,
        overwrite: bool = False,
        save_seconds: float = SAVE_SECONDS,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._source = source
        self._overwrite = overwrite
        self._say = say
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
        """Every row before `position` is written; checkpoint that periodically."""
        self._settled = position
        if self._save_seconds == 0:
            self._save(position)
        elif self._saving is not None and not self._saving.done():
            return
        elif time.monotonic() >= self._next_save:
            self._finish_saving()
            self._saving = self._saver.submit(self._save, position)

    def commit(self) -> None:
        """Give every file its final name, unless the source is no longer what was read."""
        if (changed := changed_file(self._source.stamps)) is not None:
            raise CheckpointError(
                f"{changed}: changed while it was read; nothing was replaced, run the same command "
                "again"
            )
        self._finish_saving()  # or it would write to a journal that is deleted here
        self._save(self._end)
        for pending in self._pending:
            if pending.journal.exists():  # an output that an earlier run was done with has none
                pending.journal.note_complete(self._command)
        for pending in self._pending:
            pending.rename()
        for pending in self._pending:
            pending.journal.delete()

    def _prepare(self) -> None:
        complete = any(pending.journal.complete == self._command for pending in self._pending)
        begun = [pending for pending in self._pending if not pending.is_named(complete)]
        for pending in self._pending:
            replaced = pending.to_replace(named=pending not in begun)
            if replaced and not self._overwrite:
                raise taken(replaced[0])
        _check_space(begun)
        for pending in self._pending:
            if pending.journal.refusal:
                self._say(f"{pending.output.path}: {pending.journal.refusal}; starting over")
            if pending in begun:
                pending.prepare(self._end)
            else:
                pending.journal.position = self._end
            done = weights_before(self._source.tensors, pending.journal.position)
            if done:
                total = weights_before(self._source.tensors, self._end)
                self._say(f"{pending.output.path}: resuming at {100 * done // total} %")

    def _save(self, position: Position) -> None:
        started = time.monotonic()
        for pending in self._pending:
            pending.sync(position)
        ended = time.monotonic()
        self._next_save = ended + max(self._save_seconds, _SAVE_SHARE * (ended - started))

    def _finish_saving(self) -> None:
        """Wait for what is saved beside the work. Raises what that did."""
        if self._saving is not None:
            self._saving.result()


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
