"""GGUF files under a temporary name, which take their final names together, complete and synced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from .errors import OutputError
from .files import PositionedWriter
from .formats import U8
from .output import Output


def check_outputs(outputs: Sequence[Output], source_files: set[Path], overwrite: bool) -> None:
    """Refuse, before anything is written, what would fail or destroy something.

    Raises OutputError for an output that is the source, that exists (unless `overwrite`), that
    cannot be written, or that does not fit on its disk.
    """
    for output in outputs:
        path = output.path
        if path.exists() and any(path.samefile(file) for file in source_files):
            raise OutputError(f"{path}: is the source itself; choose another name with -o")
        if path.is_dir():
            raise OutputError(f"{path}: is a folder; name a file with -o")
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already; add --overwrite to replace it")
        if not path.parent.is_dir():
            raise OutputError(f"{path.parent}: no such folder; create it first")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path.parent}: cannot be written to; choose another with -o")
    _check_space(outputs)


def _check_space(outputs: Sequence[Output]) -> None:
    needed: dict[int, int] = {}
    for output in outputs:
        folder = output.path.parent
        disk = folder.stat().st_dev
        needed[disk] = needed.get(disk, 0) + output.nbytes
        free = shutil.disk_usage(folder).free
        if needed[disk] > free:
            raise OutputError(
                f"{folder}: {needed[disk]:,} bytes needed, {free:,} free; make room or choose "
                "another folder with -o"
            )


class PartialFiles:
    """The outputs while they are written, `<name>.part`: deleted unless `commit` is reached."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._parts = {output.path: Path(f"{output.path}.part") for output in outputs}
        self._outputs = outputs
        self._writer = PositionedWriter()

    def __enter__(self) -> PartialFiles:
        try:
            for output in self._outputs:
                with self.part(output).open("wb") as file:
                    file.write(output.header)
                    file.truncate(output.nbytes)
        except BaseException as error:
            self._delete()
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
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        if error is not None:
            self._delete()
        if isinstance(error, OSError):
            raise OutputError(f"{error.filename or 'output'}: {error.strerror}") from None

    def part(self, output: Output) -> Path:
        """The temporary file of `output`: the whole GGUF once every row is written."""
        return self._parts[output.path]

    def write(self, output: Output, offset: int, data: U8) -> None:
        """Put bytes at `offset` of an output, from any thread. Raises OutputError."""
        try:
            self._writer.write(self.part(output), offset, data)
        except OSError as error:
            raise OutputError(f"{output.path}: {error.strerror}; nothing was replaced") from None

    def commit(self) -> None:
        """Sync every file to disk, then give each its final name."""
        self._writer.close()
        for part in self._parts.values():
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        for path, part in self._parts.items():
            part.replace(path)

    def _delete(self) -> None:
        for part in self._parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
