"""Positioned reads and writes from many threads, without a shared file position."""

from __future__ import annotations

import threading
from io import FileIO
from pathlib import Path

import numpy as np

from .errors import CheckpointError
from .formats import U8


class _PerThreadFiles:
    """One unbuffered file object for each (path, thread): os.pread does not exist on Windows."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._files: dict[tuple[Path, int], FileIO] = {}

    def at(self, path: Path, offset: int) -> FileIO:
        key = path, threading.get_ident()
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = FileIO(path, self._mode)
        file.seek(offset)
        return file

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


class PositionedReader:
    """Reads byte ranges of files; not by mmap, whose touched pages count as memory used."""

    def __init__(self) -> None:
        self._files = _PerThreadFiles("rb")

    def read(self, path: Path, offset: int, count: int, what: str) -> U8:
        """`count` bytes from `offset`; CheckpointError naming `what` when the file is shorter."""
        buffer = np.empty(count, np.uint8)
        view, done = buffer.data, 0
        try:
            file = self._files.at(path, offset)
            while done < count and (step := file.readinto(view[done:])):
                done += step
        except OSError as error:
            raise CheckpointError(f"{path}: reading {what!r}: {error.strerror or error}") from None
        if done < count:
            raise CheckpointError(
                f"{path}: ends at byte {offset + done} inside {what!r}; the file changed or "
                "was cut while it was read"
            )
        return buffer

    def close(self) -> None:
        """Close every file that was opened."""
        self._files.close()


class PositionedWriter:
    """Writes byte ranges into files that exist."""

    def __init__(self) -> None:
        self._files = _PerThreadFiles("rb+")

    def write(self, path: Path, offset: int, data: U8) -> None:
        """Write all of `data` (C-contiguous) at `offset`. Raises OSError."""
        view, done = data.data.cast("B"), 0
        file = self._files.at(path, offset)
        while done < len(view):
            done += file.write(view[done:])

    def close(self) -> None:
        """Close every file that was opened."""
        self._files.close()
