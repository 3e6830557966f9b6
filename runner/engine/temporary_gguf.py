"""A model in a temporary GGUF file; if its process is killed, the next one there deletes it.

The file lies in a hidden folder beside a lock that its process holds. The system releases the lock
when the process ends, so a lock that can be acquired belongs to a dead run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.signals import signals_held
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import Preset
from franken_gguf.runner.terminal.text import size

_PREFIX, _LOCK, _FILE = ".franken-gguf-base-", "lock", "base.gguf"


@contextmanager
def converted(source: Source, folder: Path, preset: Preset, processes: int) -> Iterator[Header]:
    """Yield the header of `source` converted to `preset`, a file in `folder` deleted at the end.

    Raises FrankenError, OSError.
    """
    with temporary_gguf(folder) as file:
        output = plan_output(source, file, preset)
        free = shutil.disk_usage(folder).free
        if output.nbytes > free:
            raise OutputError(
                f"{folder}: the model needs {size(output.nbytes)} here while it runs in "
                f"{preset.name}, but {size(free)} is free; make room, or give a smaller --base-type"
            )
        convert(source, [output], threads=processes)
        yield read_header(file)


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
