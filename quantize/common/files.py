"""Read and write bytes at an offset, replace a file atomically, notice changes to a file.

read_at and write_at open the file on every call: no handle is shared between processes or left
open, and a deleted file is noticed. mmap is not used: its touched pages count as memory in use.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CheckpointError, OutputError, ReadError

U8 = NDArray[np.uint8]
FileStamp = tuple[str, int, int]
"""A file's path, its size in bytes, and the time of its last change in nanoseconds."""


def file_stamp(path: Path) -> FileStamp:
    """The file's current stamp, which differs once the file has changed. Raises OSError."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def changed_file(stamps: Iterable[FileStamp]) -> str | None:
    """The first of these files that has changed. Raises ReadError if one cannot be found."""
    for stamp in stamps:
        try:
            if file_stamp(Path(stamp[0])) != stamp:
                return stamp[0]
        except OSError as error:
            raise ReadError(
                f"{stamp[0]}: {error.strerror}; restore it and rerun the same command"
            ) from None
    return None


def not_the_file(start: bytes) -> str | None:
    """Why a file that begins with these bytes (30 are enough) is not the one meant, or None."""
    if not start:
        return "it is empty; download it again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer to the file; run 'git lfs pull', or download it"
    return None


def read_at(path: Path, offset: int, count: int, what: str) -> U8:
    """`count` bytes from `offset`; errors name `what`, such as a tensor.

    Raises ReadError if the file cannot be read, CheckpointError if it ends too early.
    """
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
            f"{path}: ends at byte {offset + done}, inside {what!r}; it was truncated or replaced "
            "while it was read"
        )
    return buffer


def write_at(path: Path, offset: int, data: U8) -> None:
    """Write all of `data` (C-contiguous) at `offset` of an existing file. Raises OSError."""
    with FileIO(path, "rb+") as file:
        file.seek(offset)
        write_all(file, data.data.cast("B"))


def write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write all of `data` at the current position, in as many calls as needed. Raises OSError."""
    view, done = memoryview(data), 0
    while done < len(view):
        done += file.write(view[done:])


@contextmanager
def replacing(
    path: Path, *, part: Path | None = None, mode: int = 0o666, fsync: bool = False
) -> Iterator[Path]:
    """A temporary file beside `path` to write to, renamed to `path` at the end.

    On an error it is removed, and `path` stays as it was. `part` is its name, by default a random
    one; what a killed process left there is replaced. `mode` is reduced by the umask. With `fsync`
    both the data and the new name survive a power cut. Raises OSError.
    """
    if part:
        part.unlink(missing_ok=True)
    part = part or path.with_name(f".{token_hex(8)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield part
        if fsync:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
        if fsync:
            sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def save_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], *, part: Path | None = None
) -> None:
    """Write what an unfinished run keeps to the .npz file `path`; see `replacing`.

    Raises OutputError.
    """
    try:
        with replacing(path, part=part, fsync=True) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}; make room and run the same "
            "command to resume"
        ) from None


@contextmanager
def created(folder: Path) -> Iterator[None]:
    """Create a folder; delete it again if it is new and an error leaves it empty."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def sync_folder(folder: Path) -> None:
    """Make files created, renamed and deleted in it durable. Does nothing on Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
