"""Where a training stands after some steps, and the file in which it waits to be resumed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.files import save_arrays

from .loss import Measured


@dataclass(frozen=True)
class State:
    """The rows after `done` steps, and what the next step needs."""

    rows: F32
    """[layers, experts, hidden]."""
    mean: F32
    """Adam's mean gradient, shaped like `rows`."""
    square: F32
    """Adam's mean squared gradient."""
    loads: F32
    """Each expert's share of the tokens lately: [layers, experts]."""
    done: int
    before: Sequence[Measured]
    """With the rows from before the first step, for each text."""


def first_state(rows: F32, before: Sequence[Measured]) -> State:
    """Before the first step."""
    loads = np.mean([one.loads for one in before], axis=0).astype(np.float32)
    return State(rows, np.zeros_like(rows), np.zeros_like(rows), loads, 0, before)


def save(path: Path, state: State) -> None:
    """Write it to `path`, all or nothing. Only one process may do so at a time.

    Raises OutputError.
    """
    arrays: dict[str, NDArray[Any]] = {
        "rows": state.rows,
        "mean": state.mean,
        "square": state.square,
        "loads": state.loads,
        "done": np.array(state.done),
    }
    for number, one in enumerate(state.before):
        arrays |= {f"losses{number}": one.losses, f"loads{number}": one.loads}
        arrays[f"inputs{number}"] = one.inputs
    save_arrays(path, arrays, part=path.with_name(f"{path.name}.part"))


def load(path: Path, rows: F32, held_out: Sequence[NDArray[np.int64]]) -> State | None:
    """The state at `path` for routers shaped like `rows` and these texts.

    None if there is none, or if it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _state(arrays, rows.shape, held_out)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _state(
    arrays: Mapping[str, NDArray[Any]],
    shape: tuple[int, ...],
    held_out: Sequence[NDArray[np.int64]],
) -> State:
    loads = shape[:2]
    before = [
        Measured(
            _floats(arrays, f"losses{number}", (len(text), text.shape[1] - 1)),
            _floats(arrays, f"loads{number}", loads),
            _floats(arrays, f"inputs{number}", loads[:1]),
        )
        for number, text in enumerate(held_out)
    ]
    rows, mean, square = (_floats(arrays, name, shape) for name in ("rows", "mean", "square"))
    shares = _floats(arrays, "loads", loads)
    return State(rows, mean, square, shares, int(arrays["done"]), before)


def _floats(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> F32:
    """An array of finite numbers. Raises ValueError for anything else."""
    array = np.asarray(arrays[name])
    if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(name)
    return array
