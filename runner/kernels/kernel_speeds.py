"""How fast both quantizers are on this machine: measured once for each type, then cached.

Ours is tried with several sizes of chunks and of numpy's buffer: which is best depends on the
caches, and on what a call of numpy costs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from franken_gguf.quantize.blocks.columns import DEFAULT, Tuning
from franken_gguf.quantize.blocks.formats import F32, FORMATS, Quantize, Step, TunedQuantize
from franken_gguf.quantize.common.blas import one_blas_thread
from franken_gguf.quantize.common.files import replacing
from franken_gguf.runner.engine.cpu_check import build, cpu
from franken_gguf.runner.engine.ggml_quantize import GgmlQuantize

_ROWS, _COLS = 256, 2048
_FEW_ROWS = 64
_SLOW = 2e-7
"""Seconds for a weight from which fewer rows are enough."""
_ROUNDS = 3
# Also a little less than the usual: chunks of a power of two put loads and stores at the same
# offset in a page, which some processors mistake for the same address.
_CHUNKS = (0.94, 0.5, 0.47, 0.25)
_BUFFERS = (256, 2048)
_CLEARLY = 0.95
_MAX_RECORD_BYTES = 1 << 16


@dataclass(frozen=True)
class Speeds:
    """Of one type, plain or weighted. Seconds of one processor."""

    numpy: float
    """For a weight, with the best tuning; as `ggml`."""
    ggml: float
    ggml_start: float
    """Of a process' first call, in which ggml builds its tables."""
    equal: bool
    """Whether both wrote the same bytes."""
    chunk: float = 1.0
    buffer: int = DEFAULT.buffer

    @property
    def tuning(self) -> Tuning:
        """The tuning with which ours is fastest."""
        return Tuning(self.chunk, self.buffer)


def speeds(steps: Iterable[Step], library: str) -> dict[Step, Speeds]:
    """Of all `steps`; those that are not in the cache are measured now, in about a second each."""
    path = record_path()
    known = _read(path)
    missing = [step for step in steps if step not in known]
    with one_blas_thread():
        known |= {step: _measured(step, library) for step in missing}
    if missing:
        _write(path, known)
    return {step: known[step] for step in steps}


def record_path() -> Path:
    """The file that caches the speeds for this llama.cpp and numpy on this CPU."""
    key = hashlib.sha256(repr((build(), np.__version__, cpu())).encode()).hexdigest()[:24]
    return user_cache_path("franken-gguf", appauthor=False) / "kernels" / f"{key}.json"


def _measured(step: Step, library: str) -> Speeds:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((_ROWS, _COLS), np.float32)
    importance = rng.random(_COLS, np.float32) if step.weighted else None
    theirs = GgmlQuantize(step.format, library)
    before = time.process_time()
    theirs(rows[:1], importance)
    start = time.process_time() - before
    few = rows[:_FEW_ROWS]
    other, ggml = theirs(few, importance), _seconds(theirs, few, importance)
    one = FORMATS[step.format].quantize(few, importance)
    if _seconds(FORMATS[step.format].quantize, few, importance) > _SLOW:
        rows = few
    own, tuning = _best_tuning(step.format, rows, importance)
    return Speeds(own, ggml, start, bool((one == other).all()), *tuning)


def _best_tuning(name: str, rows: F32, importance: F32 | None) -> tuple[float, Tuning]:
    """The best size of chunks, then the best buffer with it. A change must pay clearly."""
    best, fastest = DEFAULT, _seconds(TunedQuantize(name, DEFAULT), rows, importance)
    for chunk in _CHUNKS:
        tried = Tuning(chunk, best.buffer)
        seconds = _seconds(TunedQuantize(name, tried), rows, importance)
        if seconds < _CLEARLY * fastest:
            best, fastest = tried, seconds
    for buffer in _BUFFERS:
        tried = Tuning(best.chunk, buffer)
        seconds = _seconds(TunedQuantize(name, tried), rows, importance)
        if seconds < _CLEARLY * fastest:
            best, fastest = tried, seconds
    return fastest, best


def _seconds(quantize: Quantize, rows: F32, importance: F32 | None) -> float:
    """The least seconds of processor time for a weight in a few rounds."""
    times = []
    for _ in range(_ROUNDS):
        before = time.process_time()
        quantize(rows, importance)
        times.append(time.process_time() - before)
    return min(times) / rows.size


def _read(path: Path) -> dict[Step, Speeds]:
    """What is cached; nothing if the file is missing or invalid."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_RECORD_BYTES))
        found = {
            Step(name, bool(weighted)): Speeds(**values) for name, weighted, values in document
        }
        is_valid = all(_is_valid(step, one) for step, one in found.items())
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
    return found if is_valid else {}


def _is_valid(step: Step, found: Speeds) -> bool:
    """Whether a record that may have been edited can be used. Raises TypeError for other types."""
    numbers = (found.numpy, found.ggml, found.ggml_start)
    return (
        step.format in FORMATS
        and all(isfinite(number) and number >= 0 for number in numbers)
        and found.chunk in (DEFAULT.chunk, *_CHUNKS)
        and found.buffer in (DEFAULT.buffer, *_BUFFERS)
    )


def _write(path: Path, known: dict[Step, Speeds]) -> None:
    """Cache them; if that fails, the next run measures again."""
    document = [(step.format, step.weighted, asdict(one)) for step, one in known.items()]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps(document))
