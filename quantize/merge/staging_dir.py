"""A folder that is filled out of sight, and shows its files when all of them are there.

While OUT is filled, everything stands in OUT/.franken-gguf-merge, which is locked meanwhile, and
deleted however that ends. What a killed run left there the next one deletes. Nothing beside OUT is
touched, and OUT may be there already, empty: a mount point, or the current folder.
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
# Nothing takes a folder without it for a model.
_LAST = "config.json"


@contextmanager
def pending_folder(folder: Path, nbytes: int) -> Iterator[Path]:
    """Yield where to write what `folder` shall hold; nothing of it stays where the body raises.

    Raises OutputError where something is there already, where another process fills it, or where
    its disk has no room for `nbytes`; OSError.
    """
    folder = Path(os.path.realpath(folder))  # resolve() raises RuntimeError for links in a circle
    hidden = folder / HIDDEN
    _check_place(folder)
    made = _made(folder)
    try:
        with _locked(folder):
            try:
                _check_empty(folder)  # another process may just have filled it
                files = _emptied(hidden / _FILES)
                _check_space(folder, nbytes)
                yield files
                _check_empty(folder)
                _move(files, folder)
            finally:
                shutil.rmtree(hidden / _FILES, ignore_errors=True)
    finally:
        # What another process has begun in is not empty, and stays.
        for one in (hidden, folder) if made else (hidden,):
            with suppress(OSError):
                one.rmdir()


def _made(folder: Path) -> bool:
    """Whether it was not there. Unlike mkdir with exist_ok it may go again meanwhile."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _check_place(folder: Path) -> None:
    if folder.exists():
        _check_empty(folder)
    place = folder if folder.exists() else folder.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise OutputError(f"{place}: no folder that can be written to; create it first")


def _check_empty(folder: Path) -> None:
    hidden = folder / HIDDEN
    if not folder.is_dir() or any(one != hidden for one in folder.iterdir()) or _foreign(hidden):
        raise OutputError(f"{folder}: exists already; choose another name, or remove it")


def _foreign(hidden: Path) -> bool:
    """Whether it is somebody else's, though it has our name: ours holds a lock, or nothing yet."""
    if hidden.is_symlink():
        return True
    try:
        names = {one.name for one in hidden.iterdir()}
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        return True
    return not names <= {_LOCK, _FILES} or names == {_FILES}


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _check_space(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise OutputError(
            f"{folder}: {nbytes:,} bytes needed, {free:,} free; make room, or convert the recipe, "
            "which writes no checkpoint"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / HIDDEN / _LOCK, timeout=0)
    try:
        _made(folder / HIDDEN)
        lock.acquire()
    except (Timeout, FileExistsError, FileNotFoundError):
        # It is held, or went just now with the process that held it.
        _check_place(folder)
        raise OutputError(f"{folder}: another merge is writing it; wait for it") from None
    try:
        yield
    finally:
        # While it is held, or another process may lock a file that is about to go. Windows, which
        # refuses that, deletes it on release.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def _move(files: Path, folder: Path) -> None:
    """Into `folder`, all or nothing."""
    listed = sorted(files.iterdir(), key=lambda one: (one.name == _LAST, one.name))
    try:
        for file in listed:
            file.rename(folder / file.name)
        sync_folder(folder)
    except BaseException:
        for file in listed:
            if not file.exists():  # else what bears its name in the folder is not ours
                with suppress(OSError):
                    (folder / file.name).rename(file)
        raise
