"""A GGUF file for a while: what a killed run leaves of it, the next one in that folder deletes.

It stands in a hidden folder of its own, beside the lock of the process that made it. A lock ends
with its process: that it can be had tells a dead run from one that is still at work.
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
    """Yield where in `folder` to write a file that is deleted at the end. Raises OSError."""
    for lock in folder.glob(f"{_PREFIX}*/{_LOCK}"):
        if not lock.parent.is_symlink():
            _delete_left(lock.parent)
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


def _delete_left(hidden: Path) -> None:
    """What is in use stays, and what is not ours."""
    # A timeout, which means that its process is alive, is an OSError too.
    with suppress(OSError):
        with FileLock(hidden / _LOCK, timeout=0):
            # Without a file it may have been made this moment.
            if not _empty(hidden):
                return
        _remove(hidden)


def _empty(hidden: Path) -> bool:
    """Delete the file and what is beside it while it is written; whether there was any."""
    files = list(hidden.glob(f"{_FILE}*"))
    for file in files:
        file.unlink()
    return bool(files)


def _remove(hidden: Path) -> None:
    with suppress(OSError):
        (hidden / _LOCK).unlink(missing_ok=True)
        hidden.rmdir()
