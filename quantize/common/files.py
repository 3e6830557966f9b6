"""Bytes at a place in a file, read and written, and whether a file has changed.

Every call opens the file anew: nothing is shared between processes or has to be closed, and a
file that vanishes is noticed. Reading is not by mmap, whose touched pages count as memory used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError, ReadError

U8 = NDArray[np.uint8]
FileStamp = tuple[str, int, int]
"""A file's path, its size in bytes, and the time of its last change in nanoseconds."""


def file_stamp(path: Path) -> FileStamp:
    """What changes when a file does."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def changed_file(stamps: Iterable[FileStamp]) -> str | None:
    """The first of these files that is not as it was. Raises ReadError for one that is gone."""
    for stamp in stamps:
        try:
            if file_stamp(Path(stamp[0])) != stamp:
                return stamp[0]
        except OSError as error:
            raise ReadError(f"{stamp[0]}: {error.strerror}; bring it back and run again") from None
    return None


def read_at(path: Path, offset: int, count: int, what: str) -> U8:
    """`count` bytes from `offset`. Raises ReadError naming `what`, CheckpointError at its end."""
    buffer = np.empty(count, np.uint8)
    view, done = buffer.data, 0
    try:
        with FileIO(path) as file:
            file.seek(offset)
            while done < count and (step := file.readinto(view[done:])):
                done += step
    except OSError as error:
        raise ReadError(
            f"{path}: reading {what!r}: {error.strerror or error}; fix that and rerun the "
            "same command to resume"
        ) from None
    if done < count:
        raise CheckpointError(
            f"{path}: ends at byte {offset + done} inside {what!r}; the file changed or was cut "
            "while it was read"
        )
    return buffer


def write_at(path: Path, offset: int, data: U8) -> None:
    """Write all of `data` (C-contiguous) at `offset` of a file that exists. Raises OSError."""
    with FileIO(path, "rb+") as file:
        file.seek(offset)
        write_all(file, data.data.cast("B"))


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of `data` where the file stands, however the system cuts it. Raises OSError."""
    view, done = memoryview(data), 0
    while done < len(view):
        done += file.write(view[done:])


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed and deleted in it last. Windows does not need this."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
