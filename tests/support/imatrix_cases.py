"""The models and the text on which our importance matrices are compared with llama-imatrix's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray

from support.cases import SMALL
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.models import smollm2

CHUNK_SIZE, CHUNKS = 64, 3
TEXT = "text.txt"
OPTIONS = ("-c", str(CHUNK_SIZE), "--chunks", str(CHUNKS), "-t", "1", "-fa", "off")
"""Of llama-imatrix and of ours."""
COLUMNS = 4
"""Columns of each tensor that are recorded, evenly spaced, besides the sum of all."""

_SENTENCES = (
    "The keeper of the lighthouse counted seven ships and wrote them down in blue ink, because "
    "black ink belonged to storms. Then he asked: who reads 1,024 pages of weather?"
)


def write_text(folder: Path) -> Path:
    """The text, some 700 words in an order that a seed decides."""
    words = Random(7).choices(_SENTENCES.split(" "), k=700)
    path = folder / TEXT
    path.write_text(" ".join(words), encoding="utf-8")
    return path


def _mixture(folder: Path) -> Path:
    checkpoint = make_checkpoint(folder / "mixture", experts=8, **SMALL)
    return converted(checkpoint, folder / "out", ["F32"])[0]


def _dense(folder: Path) -> Path:
    checkpoint = make_checkpoint(folder / "dense", layout="dense", **SMALL)
    return converted(checkpoint, folder / "out", ["F32"])[0]


CASES: dict[str, Callable[[Path], Path]] = {
    "small mixture": _mixture,
    "small dense model": _dense,
    "SmolLM2": lambda _: smollm2(),
}
"""Each makes a GGUF file, in a folder if it needs one."""


def tensors_of(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a GGUF file of F32 tensors, in the file's order."""
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}


def sample(values: NDArray[np.float32]) -> list[float]:
    """The sum of a tensor's values, then COLUMNS of them."""
    flat = values.reshape(-1).astype(np.float64)
    places = np.linspace(0, flat.size - 1, COLUMNS).round().astype(int)
    return [float(f"{number:.7g}") for number in (flat.sum(), *flat[places])]
