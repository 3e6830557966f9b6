"""A temporary GGUF file; if its process is killed, the next one in the same folder deletes it.

The file lies in a hidden folder beside a lock that its process holds. The system releases the lock
when the process ends, so a lock that can be acquired belongs to a dead run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock

from franken_gguf.quantize.common.signals import signals_held

_PREFIX, _LOCK, _FILE = ".franken-gguf-base-", "lock", "base.gguf"


@contextmanager
def temporary_gguf(folder: Path) -> Iterator[Path]:
    """Yield a path inside `folder`; the file there is deleted at the end. Raises OSError."""
    for lock in folder.glob(f"{_PREFIX}*/{_LOCK}"):
        if not lock.parent.is_symlink():
            _delete_leftovers(lock.parent)
    hidden = Path(mkdtemp(prefix=_PREFIX, dir=folder))
    try:
        with FileLock(hidden / _LOCK):
            try:
                yield hidden / _FILE
            finally:
                with signals_held():
                    _empty(hidden)
    finally:
        _remove(hidden)


def _delete_leftovers(hidden: Path) -> None:
    """Delete a dead run's folder, but keep one that is in use and files that are not ours."""
    # FileLock's Timeout, which means that the process is alive, is an OSError too.
    with suppress(OSError):
        with FileLock(hidden / _LOCK, timeout=0):
            # A folder without the file may have been created just now.
            if not _empty(hidden):
                return
        _remove(hidden)


def _empty(hidden: Path) -> bool:
    """Delete the file and its partial versions; return whether there were any."""
    files = list(hidden.glob(f"{_FILE}*"))
    for file in files:
        file.unlink()
    return bool(files)


def _remove(hidden: Path) -> None:
    with suppress(OSError):
        (hidden / _LOCK).unlink(missing_ok=True)
        hidden.rmdir()
