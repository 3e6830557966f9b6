"""A model's weights whose embeddings and lm_head are extended by rows of other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8
from franken_gguf.quantize.checkpoint.named_tensors import Weights
from franken_gguf.quantize.common.errors import MergeError

from .recipe_fields import ModelPath

EMBEDDINGS, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Row(NamedTuple):
    """A token's row in a model's embeddings and lm_head."""

    path: ModelPath
    weights: Weights
    number: int

    def read(self, name: str) -> tuple[U8, GGMLQuantizationType]:
        """The stored row of the tensor `name` (the embeddings' if it is tied), and its type."""
        if name not in self.weights.shapes:
            name = EMBEDDINGS
        return self.weights.read(name, self.number, self.number + 1), self.weights.dtype(name)


class ExtendedWeights:
    """`weights` with a vocabulary of `count` rows, some read from other models. See Weights."""

    def __init__(self, weights: Weights, rows: Mapping[int, Sequence[Row]], count: int) -> None:
        """`rows`: the rows whose mean a token id gets, for every id that `weights` lacks."""
        self._weights = weights
        self._rows = rows
        self._count = count

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """See Weights.shapes."""
        shapes = dict(self._weights.shapes)
        for name in (EMBEDDINGS, LM_HEAD):
            if name in shapes:
                shapes[name] = (self._count, *shapes[name][1:])
        return shapes

    @property
    def files(self) -> set[Path]:
        """See Weights.files."""
        owners = (row.weights.files for rows in self._rows.values() for row in rows)
        return self._weights.files.union(*owners)

    def dtype(self, name: str) -> GGMLQuantizationType:
        """See Weights.dtype."""
        return self._weights.dtype(name)

    def read(self, name: str, start: int, stop: int) -> U8:
        """See Weights.read."""
        if name not in (EMBEDDINGS, LM_HEAD):
            return self._weights.read(name, start, stop)
        own, cols = self._weights.shapes[name]
        row_bytes = FORMATS[self.dtype(name).name].row_bytes(cols)
        rows = np.empty((stop - start, row_bytes), np.uint8)
        if start < own:
            rows[: min(stop, own) - start] = self._weights.read(name, start, min(stop, own))
        for id_ in self._rows:
            if start <= id_ < stop:
                rows[id_ - start] = self._mean_row(name, id_)
        return rows

    def _mean_row(self, name: str, id_: int) -> U8:
        dtype, rows = self.dtype(name), self._rows[id_]
        stored = [row.read(name) for row in rows]
        values: list[F32] = [FORMATS[kind.name].dequantize(raw) for raw, kind in stored]
        for row, value in zip(rows, values, strict=True):
            if not np.isfinite(value).all():
                raise MergeError(
                    f"{row.path}: tensor {name!r} holds NaN or Inf in row {row.number}; the model "
                    "is broken, download or merge it again"
                )
        if len(rows) == 1 and stored[0][1] is dtype:
            return stored[0][0]
        return FORMATS[dtype.name].quantize(np.mean(values, axis=0, dtype=np.float32), None)
