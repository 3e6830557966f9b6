"""An output folder that gets its files all at once, when all of them are complete.

Until then they are written to OUT/.franken-gguf-merge, which is locked and deleted at the end, also
after an error. The next run deletes what a killed run left there. Nothing next to OUT is touched,
and OUT can already exist if it is empty, for example a mount point or the current folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import sync_folder

HIDDEN = ".franken-gguf-merge"
_LOCK, _FILES = "lock", "files"
# Moved last: without it other programs do not take the folder for a model.
_LAST = "config.json"


@contextmanager
def pending_folder(folder: Path, nbytes: int) -> Iterator[Path]:
    """Yield a folder whose files are moved to `folder` at the end; deleted if the body raises.

    Raises OutputError if `folder` is not empty, if another process is writing to it, or if its disk
    has less than `nbytes` free; OSError.
    """
    folder = Path(os.path.realpath(folder))  # resolve() raises RuntimeError for circular links
    hidden = folder / HIDDEN
    _check_destination(folder)
    created = _create(folder)
    try:
        with _locked(folder):
            try:
                _check_empty(folder)  # another process may just have filled it
                files = _fresh_folder(hidden / _FILES)
                _check_space(folder, nbytes)
                yield files
                _check_empty(folder)
                _move(files, folder)
            finally:
                shutil.rmtree(hidden / _FILES, ignore_errors=True)
    finally:
        # A folder that another process has started to use is not empty, and stays.
        for empty in (hidden, folder) if created else (hidden,):
            with suppress(OSError):
                empty.rmdir()


def _create(folder: Path) -> bool:
    """Create a folder; False if it exists. mkdir(exist_ok=True) fails if it is then deleted."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _check_destination(folder: Path) -> None:
    if folder.exists():
        _check_empty(folder)
    existing = folder if folder.exists() else folder.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(f"{existing}: is not a writable folder; create it or choose another")


def _check_empty(folder: Path) -> None:
    hidden = folder / HIDDEN
    is_used = not folder.is_dir() or any(entry != hidden for entry in folder.iterdir())
    if is_used or _is_foreign(hidden):
        raise OutputError(f"{folder}: exists already; choose another name, or remove it")


def _is_foreign(hidden: Path) -> bool:
    """Whether another program made a folder of this name; ours is empty or holds a lock."""
    if hidden.is_symlink():
        return True
    try:
        names = {entry.name for entry in hidden.iterdir()}
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True
    return not names <= {_LOCK, _FILES} or names == {_FILES}


def _fresh_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _check_space(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise OutputError(
            f"{folder}: {nbytes:,} bytes needed, {free:,} free; make room, or use "
            "convert, which needs no merged checkpoint"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / HIDDEN / _LOCK, timeout=0)
    try:
        _create(folder / HIDDEN)
        lock.acquire()
    except (Timeout, FileExistsError, FileNotFoundError):
        # Another process holds the lock, or has just deleted it.
        _check_destination(folder)
        raise OutputError(f"{folder}: another merge is writing to it; wait until it ends") from None
    try:
        yield
    finally:
        # Delete it before releasing it, or another process could lock a file that is about to be
        # deleted. Windows does not allow that; there, release() deletes the file.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _move(files: Path, folder: Path) -> None:
    """Move all files into `folder`, or none."""
    ordered = sorted(files.iterdir(), key=lambda file: (file.name == _LAST, file.name))
    try:
        for file in ordered:
            file.rename(folder / file.name)
        sync_folder(folder)
    except BaseException:
        for file in ordered:
            if not file.exists():  # it was moved; otherwise the folder's file is not ours
                with suppress(OSError):
                    (folder / file.name).rename(file)
        raise
