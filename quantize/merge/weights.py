"""The mixture's tensors by Mixtral's names, each a view of rows in one of the dense models."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.errors import MergeError
from franken_gguf.quantize.formats import F32, FORMATS, U8
from franken_gguf.quantize.weights import Weights

from .models import FEED_FORWARD, Model, feed_forward
from .recipe_file import ExpertRecipe

_BIAS = ".bias"


@dataclass(frozen=True)
class _View:
    """A tensor of a dense model, with what the recipe does to it."""

    weights: Weights
    name: str
    noise: float = 0.0
    seed: int = 0
    scale: float = 1.0

    def read(self, start: int, stop: int, dtype: GGMLQuantizationType) -> U8:
        """Rows in `dtype`; as they are stored where nothing is to be done."""
        stored = self.weights.read(self.name, start, stop)
        kind = self.weights.dtype(self.name)
        if kind is dtype and not self.noise and self.scale == 1:
            return stored
        rows = FORMATS[kind.name].dequantize(stored)
        if self.noise:
            rows = rows + np.float32(self.noise) * self._normal(start, stop, rows.shape[1])
        if self.scale != 1:
            rows = rows * np.float32(self.scale)
        return FORMATS[dtype.name].quantize(rows, None)

    def _normal(self, start: int, stop: int, cols: int) -> F32:
        """Noise that depends on nothing but the tensor and the row."""
        key = self.seed << 32 | zlib.crc32(self.name.encode())
        streams = (
            np.random.Generator(np.random.Philox(key=key, counter=[0, 0, row, 0]))
            for row in range(start, stop)
        )
        return np.stack([stream.standard_normal(cols, np.float32) for stream in streams])


class MergedWeights:
    """What mergekit-moe would write, in its per-expert layout. See Weights."""

    def __init__(
        self,
        recipe_path: Path,
        base: Model,
        experts: Sequence[tuple[ExpertRecipe, Model]],
        dtype: GGMLQuantizationType,
    ) -> None:
        """`experts` fit `base` (models.check_fits). Raises MergeError for a base with biases."""
        self._recipe_path = recipe_path
        self.stored_as = dtype
        """The type of every tensor."""
        self._views: dict[str, _View] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.rows: F32 | None = None
        """The router's, [layers, experts, hidden]; None until the base model has run."""
        shape = base.shape
        for layer in range(shape.num_hidden_layers):
            self._shapes[router(layer)] = (len(experts), shape.hidden_size)
        for name, tensor_shape in base.weights.shapes.items():
            if name.endswith(_BIAS):
                raise MergeError(f"{base.path}: {name}: a Mixtral has no biases; take another base")
            if ".mlp." not in name and not name.endswith(".inv_freq"):
                self._add(name, tensor_shape, _View(base.weights, name))
        for number, (expert, model) in enumerate(experts):
            for layer in range(shape.num_hidden_layers):
                for dense, ours in FEED_FORWARD.items():
                    name = feed_forward(layer, dense)
                    scale = expert.residual_scale if dense == "down_proj" else 1.0
                    view = _View(model.weights, name, expert.noise_scale, number, scale)
                    self._add(expert_matrix(layer, number, ours), model.weights.shapes[name], view)

    def _add(self, name: str, shape: tuple[int, ...], view: _View) -> None:
        self._shapes[name] = shape
        self._views[name] = view

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """See Weights.shapes."""
        return self._shapes

    @property
    def files(self) -> set[Path]:
        """The recipe, and every file of the models that a tensor is read from."""
        models = {id(view.weights): view.weights for view in self._views.values()}
        return {self._recipe_path}.union(*(weights.files for weights in models.values()))

    def dtype(self, name: str) -> GGMLQuantizationType:
        """See Weights.dtype; one for all tensors."""
        return self.stored_as

    def read(self, name: str, start: int, stop: int) -> U8:
        """See Weights.read."""
        if name in self._views:
            return self._views[name].read(start, stop, self.stored_as)
        if self.rows is None:
            raise MergeError(
                f"{self._recipe_path}: the base model has not run yet, which gives the router"
            )
        rows = self.rows[_layer_of(name), start:stop]
        return FORMATS[self.stored_as.name].quantize(np.ascontiguousarray(rows), None)


def router(layer: int) -> str:
    """The name of a layer's router in the per-expert layout."""
    return f"model.layers.{layer}.block_sparse_moe.gate.weight"


def expert_matrix(layer: int, expert: int, matrix: str) -> str:
    """The name of an expert's w1, w2 or w3 in the per-expert layout."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight"


def _layer_of(router_name: str) -> int:
    return int(router_name.split(".")[2])
