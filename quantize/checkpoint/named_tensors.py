"""The protocol for weights under Hugging Face names whose rows are read on demand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import U8


class Weights(Protocol):
    """A folder of safetensors, or an object that returns rows as one does. Can be pickled."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Every tensor's shape, in numpy order."""

    @property
    def files(self) -> set[Path]:
        """Every file that is read."""

    def dtype(self, name: str) -> GGMLQuantizationType:
        """The type of a tensor's rows."""

    def read(self, name: str, start: int, stop: int) -> U8:
        """Rows `start` to `stop` (all axes but the last, flattened): uint8 [rows, row_bytes]."""
