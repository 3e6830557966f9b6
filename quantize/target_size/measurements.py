"""What was measured of a model's tensors, stored in a file so that another size takes seconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

from franken_gguf.quantize.blocks.code_refinement import REFINABLE
from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.common.files import FileStamp, replacing

_VERSION = 4
_MAX_BYTES = 64 << 20
_KEPT_FILES = 16
FOLDER = ".franken-gguf-sizes"


@dataclass
class Measurements:
    """By tensor name."""

    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    """By type name, the weighted squared error relative to the weights (type_errors.py)."""
    divergences: dict[str, float] = field(default_factory=dict)
    """KL divergence of the model with this tensor alone in its probe type, in nats for a token."""
    gains: dict[str, dict[str, float]] = field(default_factory=dict)
    """By type name, the share of the error that is left with codes chosen under second moments.

    Stored in a file of its own, as it depends on their file.
    """


def measurements_key(source: Source, importances: Mapping[str, F32], text: bytes) -> str:
    """A hash of all that the measurements depend on; `text` is what the model was run on."""
    found = hashlib.sha256(repr((_VERSION, sorted(source.stamps))).encode())
    found.update(source.fingerprint)
    for name in sorted(importances):
        found.update(name.encode())
        found.update(importances[name].tobytes())
    found.update(text)
    return found.hexdigest()[:24]


def gains_key(key: str, second_moments: FileStamp) -> str:
    """A hash of all that the gains depend on."""
    found = repr((key, second_moments, sorted(REFINABLE)))
    return hashlib.sha256(found.encode()).hexdigest()[:24]


def load(path: Path) -> Measurements:
    """Those stored at `path`; none if the file is missing or damaged."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_BYTES))
        return Measurements(
            {str(name): _numbers(errors) for name, errors in document["errors"].items()},
            _numbers(document["divergences"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Measurements()


def _numbers(document: Mapping[object, object]) -> dict[str, float]:
    """Finite numbers by name. Raises ValueError for anything else."""
    numbers: dict[str, float] = {}
    for name, value in document.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(value)
        numbers[str(name)] = max(float(value), 0.0)
    return numbers


def save(path: Path, measured: Measurements) -> None:
    """Write them to `path`, all or nothing. Raises OutputError."""
    document = {"errors": measured.errors, "divergences": measured.divergences}
    try:
        with replacing(path, fsync=True) as part:
            part.write_text(json.dumps(document), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path}: {error.strerror}; make room and rerun the same command; earlier "
            "measurements are kept"
        ) from None


def delete_oldest(folder: Path) -> None:
    """Keep the _KEPT_FILES measurements that were used last."""
    with suppress(OSError):
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[:-_KEPT_FILES]:
            path.unlink(missing_ok=True)
