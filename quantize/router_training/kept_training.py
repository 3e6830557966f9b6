"""What an interrupted training keeps beside its output, and who deletes what a killed one leaves.

A hidden folder has three files for each training, named by a hash of all that it depends on: its
state, the unfinished copy of the model, and a lock. The system releases the lock when its process
ends, so the copy beside a lock that can be acquired belongs to a dead run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from franken_gguf.quantize.common.errors import OutputError

FOLDER = ".franken-gguf-routers"
_KEPT_STATES = 4


@dataclass(frozen=True)
class KeptTraining:
    """The files of one training."""

    folder: Path
    key: str

    @property
    def state(self) -> Path:
        """Where the state is kept."""
        return self.folder / f"{self.key}.npz"

    @property
    def copy(self) -> Path:
        """The model's copy while it is written; on the disk of the output."""
        return self.folder / f"{self.key}.gguf.part"

    @property
    def lock(self) -> Path:
        """Held while the training runs."""
        return self.folder / f"{self.key}.lock"

    def delete_parts(self) -> None:
        """Delete all but the state. Raises OSError."""
        self.copy.unlink(missing_ok=True)
        self.state.with_name(f"{self.state.name}.part").unlink(missing_ok=True)
        with suppress(OSError):  # on Windows it is open
            self.lock.unlink(missing_ok=True)


@contextmanager
def kept_training(folder: Path, key: str) -> Iterator[KeptTraining]:
    """The files of the training `key` in `folder`; deleted if the block succeeds.

    Otherwise the state stays. Raises OSError, OutputError if another process runs this training.
    """
    kept = KeptTraining(folder / FOLDER, key)
    kept.folder.mkdir(exist_ok=True)
    try:
        with _locked(kept):
            _delete_leftovers(kept)
            try:
                yield kept
                kept.state.unlink(missing_ok=True)
            finally:
                kept.delete_parts()
    finally:
        with suppress(OSError):  # others' states
            kept.folder.rmdir()


@contextmanager
def _locked(kept: KeptTraining) -> Iterator[None]:
    try:
        with FileLock(kept.lock, timeout=0):
            yield
    except Timeout:
        raise OutputError(
            f"{kept.folder.parent}: another run is training this router; wait for it"
        ) from None


def _delete_leftovers(own: KeptTraining) -> None:
    """Delete what killed runs have left, but the states that were used last."""
    for lock in own.folder.glob("*.lock"):
        other = KeptTraining(own.folder, lock.stem)
        # FileLock's Timeout, which means that the process is alive, is an OSError too.
        if other != own:
            with suppress(OSError), FileLock(lock, timeout=0):
                other.delete_parts()
    with suppress(OSError):
        states = sorted(own.folder.glob("*.npz"), key=lambda path: path.stat().st_mtime)
        for path in states[:-_KEPT_STATES]:
            if path != own.state:
                path.unlink(missing_ok=True)
