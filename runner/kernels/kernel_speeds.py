"""How fast both quantizers are on this machine: measured once for each type, then cached."""

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

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8, Quantize, Step
from franken_gguf.quantize.common.files import replacing
from franken_gguf.runner.engine.cpu_check import build, cpu
from franken_gguf.runner.engine.ggml_quantize import GgmlQuantize

_ROWS, _COLS = 64, 2048
_ROUNDS = 3
_MAX_RECORD_BYTES = 1 << 16


@dataclass(frozen=True)
class Speeds:
    """Of one type, plain or weighted. Seconds of one processor."""

    numpy: float
    """For a weight, as `ggml`."""
    ggml: float
    ggml_start: float
    """Of a process' first call, in which ggml builds its tables."""
    equal: bool
    """Whether both wrote the same bytes."""


def speeds(steps: Iterable[Step], library: str) -> dict[Step, Speeds]:
    """Of all `steps`; those that are not in the cache are measured now, in about a second each."""
    path = record_path()
    known = _read(path)
    missing = [step for step in steps if step not in known]
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
    ours, theirs = FORMATS[step.format].quantize, GgmlQuantize(step.format, library)
    before = time.process_time()
    theirs(rows[:1], importance)
    start = time.process_time() - before
    one, own = _best(ours, rows, importance)
    other, ggml = _best(theirs, rows, importance)
    return Speeds(own, ggml, start, bool((one == other).all()))


def _best(quantize: Quantize, rows: F32, importance: F32 | None) -> tuple[U8, float]:
    """The blocks, and the least seconds of processor time for a weight."""
    blocks = quantize(rows, importance)
    times = []
    for _ in range(_ROUNDS):
        before = time.process_time()
        quantize(rows, importance)
        times.append(time.process_time() - before)
    return blocks, min(times) / rows.size


def _read(path: Path) -> dict[Step, Speeds]:
    """What is cached; nothing if the file is missing or invalid."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_RECORD_BYTES))
        found = {
            Step(name, bool(weighted)): Speeds(**values) for name, weighted, values in document
        }
        numbers = [(s.numpy, s.ggml, s.ggml_start) for s in found.values()]
        is_valid = all(isfinite(float(n)) and n >= 0 for some in numbers for n in some)
    except (OSError, ValueError, TypeError, RecursionError):
        return {}
    return found if is_valid and all(step.format in FORMATS for step in found) else {}


def _write(path: Path, known: dict[Step, Speeds]) -> None:
    """Cache them; if that fails, the next run measures again."""
    document = [(step.format, step.weighted, asdict(one)) for step, one in known.items()]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps(document))
