"""The mixture's tensors under Mixtral's names; each reads its rows from one of the dense models."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.float_types import is_finite
from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8
from franken_gguf.quantize.checkpoint.named_tensors import Weights
from franken_gguf.quantize.common.errors import MergeError

from .recipe_fields import ModelPath
from .recipe_file import ExpertRecipe
from .source_models import FEED_FORWARD, Model, feed_forward

_BIAS = ".bias"


def _too_large(dtype: GGMLQuantizationType) -> str:
    if dtype is GGMLQuantizationType.F16:
        return "beyond float16's range; write dtype: bfloat16 in the recipe"
    return "too large for any dtype once scaled; lower noise_scale or residual_scale"


@dataclass(frozen=True)
class _View:
    """A tensor of a dense model, with the noise and scale that the recipe gives it."""

    model: ModelPath
    weights: Weights
    name: str
    noise: float = 0.0
    seed: int = 0
    scale: float = 1.0

    def read(self, start: int, stop: int, dtype: GGMLQuantizationType) -> U8:
        """Rows in `dtype`; the stored bytes if nothing changes them.

        Raises MergeError if they are not finite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            stored = self.weights.read(self.name, start, stop)
            if self.weights.dtype(self.name) is not dtype or self.noise or self.scale != 1:
                stored = FORMATS[dtype.name].quantize(self._perturbed(stored, start, stop), None)
        if not is_finite(stored, dtype.name):
            raise self._not_finite(start, stop, dtype)
        return stored

    def _perturbed(self, stored: U8, start: int, stop: int) -> F32:
        rows = FORMATS[self.weights.dtype(self.name).name].dequantize(stored)
        # In place, to stay within a job's share of memory (quantize/output/worker_memory.py).
        if self.noise:
            noise = self._noise_rows(start, stop, rows.shape[1])
            noise *= np.float32(self.noise)
            rows = np.add(noise, rows, out=noise)
        if self.scale != 1:
            rows *= np.float32(self.scale)
        return rows

    def _not_finite(self, start: int, stop: int, dtype: GGMLQuantizationType) -> MergeError:
        """The error: the model's weights are not finite, or the changed ones overflow."""
        stored = self.weights.read(self.name, start, stop)
        rows = FORMATS[self.weights.dtype(self.name).name].dequantize(stored)
        finite = np.isfinite(rows)
        if not finite.all():
            row = start + int(np.argmin(finite.all(axis=1)))
            return MergeError(
                f"{self.model}: tensor {self.name!r} holds NaN or Inf in row {row}; the model is "
                "broken, download or merge it again"
            )
        return MergeError(
            f"{self.model}: tensor {self.name!r} holds weights as large as "
            f"{np.abs(rows).max():.3g}, {_too_large(dtype)}"
        )

    def _noise_rows(self, start: int, stop: int, cols: int) -> F32:
        """Normal noise for rows; it depends only on the seed, the tensor's name and the row."""
        key = self.seed << 32 | zlib.crc32(self.name.encode())
        noise = np.empty((stop - start, cols), np.float32)
        for row, values in enumerate(noise, start):
            stream = np.random.Philox(key=key, counter=[0, 0, row, 0])
            np.random.Generator(stream).standard_normal(dtype=np.float32, out=values)
        return noise


class MergedWeights:
    """The tensors that mergekit-moe would write, in its per-expert layout. See Weights."""

    def __init__(
        self,
        recipe_path: Path,
        base: Model,
        experts: Sequence[tuple[ExpertRecipe, Model]],
        dtype: GGMLQuantizationType,
    ) -> None:
        """`experts` must fit `base`, see source_models.check_fits. Raises MergeError for biases."""
        self._recipe_path = recipe_path
        self.stored_as = dtype
        """The type of every tensor."""
        self._views: dict[str, _View] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.rows: F32 | None = None
        """The router's rows, [layers, experts, hidden]; None before MergedSource.route."""
        shape = base.shape
        for layer in range(shape.num_hidden_layers):
            self._shapes[router(layer)] = (len(experts), shape.hidden_size)
        for name, tensor_shape in base.weights.shapes.items():
            if name.endswith(_BIAS):
                raise MergeError(f"{base.path}: {name}: Mixtral has no biases; use another base")
            if ".mlp." not in name and not name.endswith(".inv_freq"):
                self._add(name, tensor_shape, _View(base.path, base.weights, name))
        for number, (expert, model) in enumerate(experts):
            for layer in range(shape.num_hidden_layers):
                for dense, ours in FEED_FORWARD.items():
                    name = feed_forward(layer, dense)
                    scale = expert.residual_scale if dense == "down_proj" else 1.0
                    changes = expert.noise_scale, number, scale
                    view = _View(model.path, model.weights, name, *changes)
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
        """The recipe, and all files of the models that tensors are read from."""
        models = {id(view.weights): view.weights for view in self._views.values()}
        return {self._recipe_path}.union(*(weights.files for weights in models.values()))

    def dtype(self, name: str) -> GGMLQuantizationType:
        """See Weights.dtype; all tensors have the same."""
        return self.stored_as

    def read(self, name: str, start: int, stop: int) -> U8:
        """See Weights.read."""
        if name in self._views:
            return self._views[name].read(start, stop, self.stored_as)
        if self.rows is None:
            raise MergeError(
                f"{self._recipe_path}: the router is not made yet; call MergedSource.route first"
            )
        rows = np.ascontiguousarray(self.rows[_layer_of(name), start:stop])
        stored = FORMATS[self.stored_as.name].quantize(rows, None)
        if not is_finite(stored, self.stored_as.name):
            raise MergeError(
                f"{self._recipe_path}: tensor {name!r} holds weights as large as "
                f"{np.abs(rows).max():.3g}, {_too_large(self.stored_as)}"
            )
        return stored


def router(layer: int) -> str:
    """The name of a layer's router in the per-expert layout."""
    return f"model.layers.{layer}.block_sparse_moe.gate.weight"


def expert_matrix(layer: int, expert: int, matrix: str) -> str:
    """The name of an expert's w1, w2 or w3 in the per-expert layout."""
    return f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{matrix}.weight"


def _layer_of(router_name: str) -> int:
    return int(router_name.split(".")[2])
