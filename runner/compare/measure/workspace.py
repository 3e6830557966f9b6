"""A comparison's finished parts, stored in the cache so that the same command resumes.

    <cache>/compare/<hash of the questions, settings and baseline>/
        <hash of a model's file>/   prompt-0.json ... answers.json text.json run.json
        baseline/                   answers.scores answers.npz text.scores text.npz

The baseline's scores are large and are removed once every model has been compared with them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from franken_gguf.quantize.common import files
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.model_identity import samples
from franken_gguf.quantize.gguf_file.split_files import parts

from .tasks import CompareError

_MAX_BYTES = 1 << 28
_KEPT_SECONDS = 7 * 24 * 3600.0


def cache_folder() -> Path:
    """The platform's cache folder for this user's comparisons and converted quants."""
    return user_cache_path("franken-gguf", appauthor=False)


def digest(*parts: object) -> str:
    """A short hash of the `repr` of the parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def fingerprint(path: Path) -> str:
    """A hash of each of a model's files: size, modification time, header, samples of the weights.

    Raises GGUFError, OSError.
    """
    found = hashlib.sha256()
    for header in parts(read_header(path)):
        state = header.path.stat()
        found.update(repr((state.st_size, state.st_mtime_ns)).encode())
        for piece in samples(header):
            found.update(piece)
    return found.hexdigest()[:24]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """files.replacing in a folder that is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part:
        yield part


@dataclass(frozen=True)
class Workspace:
    """The folder of one comparison. Every file in it is complete."""

    folder: Path

    def load(self, model: str, part: str) -> dict[str, Any] | None:
        """A stored part; None if it is missing or cannot be read."""
        try:
            with (self.folder / model / f"{part}.json").open("rb") as file:
                found = json.loads(file.read(_MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def store(self, model: str, part: str, measured: Any) -> None:
        """Store `measured`, a dataclass, as a part. Raises OSError."""
        with replacing(self.folder / model / f"{part}.json") as path:
            path.write_text(json.dumps(asdict(measured)), encoding="utf-8")

    def baseline(self, part: str, suffix: str) -> Path:
        """A file of the baseline's scores."""
        return self.folder / "baseline" / f"{part}.{suffix}"

    def has_baseline(self, part: str) -> bool:
        """Whether the baseline's scores of a part are stored."""
        return all(self.baseline(part, suffix).exists() for suffix in ("scores", "npz"))

    def remove_baseline(self) -> None:
        """Remove the baseline's scores, which are large."""
        shutil.rmtree(self.folder / "baseline", ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock. Raises CompareError if another process holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout:
            raise CompareError(
                f"{self.folder}: the same comparison is already running; wait for it or stop it"
            ) from None


def remove_abandoned(folder: Path) -> None:
    """Remove the large files of comparisons that have not been resumed for a week."""
    for scores in folder.glob("compare/*/baseline"):
        with suppress(OSError):
            if time.time() - scores.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(scores)
