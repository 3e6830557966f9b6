"""The mixture's tensors under its family's names; each reads its rows from one dense model."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.float_types import is_finite
from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8
from franken_gguf.quantize.checkpoint.families.family import Experts, Family
from franken_gguf.quantize.checkpoint.named_tensors import Weights
from franken_gguf.quantize.common.errors import MergeError

from .recipe_fields import ModelPath
from .recipe_file import ExpertRecipe
from .source_models import FEED_FORWARD, Model, feed_forward

_BIAS = ".bias"
_QKV = re.compile(r"model\.layers\.\d+\.self_attn\.[qkv]_proj\.weight")


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
    """The tensors that mergekit-moe would write, in the per-expert layout. See Weights."""

    def __init__(
        self,
        recipe_path: Path,
        family: Family,
        base: Model,
        experts: Sequence[tuple[ExpertRecipe, Model]],
        shared: Sequence[tuple[ExpertRecipe, Model]],
        dtype: GGMLQuantizationType,
    ) -> None:
        """All must fit `base` and `family`, see source_models.check_fits and output_family.

        Raises MergeError for biases.
        """
        assert family.experts is not None
        self._recipe_path = recipe_path
        self.family = family
        self.stored_as = dtype
        """The type of every tensor."""
        self._views: dict[str, _View] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._router_rows: dict[str, tuple[int, int]] = {}
        self.rows: F32 | None = None
        """The router's rows, [layers, experts, hidden], the shared expert's gate as the last of
        the experts; None before MergedSource.route."""
        self._add_base(base)
        for layer in range(base.shape.num_hidden_layers):
            self._add_layer(layer, family.experts, experts, shared)

    def _add_base(self, base: Model) -> None:
        """The tensors outside the feed-forward layers."""
        merge = self.family.merge
        for name, shape in base.weights.shapes.items():
            if name.endswith(_BIAS) and not (merge and merge.biases):
                raise MergeError(
                    f"{base.path}: {name}: {merge.name if merge else 'a mixture'} has no biases; "
                    "use another base"
                )
            if ".mlp." not in name and not name.endswith(".inv_freq"):
                self._add(name, shape, _View(base.path, base.weights, name))
            bias = f"{name.removesuffix('.weight')}{_BIAS}"
            if merge and merge.zero_biases and _QKV.fullmatch(name) and bias not in self._shapes:
                self._shapes[bias] = shape[:1]

    def _add_layer(
        self,
        layer: int,
        names: Experts,
        experts: Sequence[tuple[ExpertRecipe, Model]],
        shared: Sequence[tuple[ExpertRecipe, Model]],
    ) -> None:
        hidden = experts[0][1].shape.hidden_size
        self._add_rows(names.router(layer), layer, 0, len(experts), hidden)
        for number, (expert, model) in enumerate(experts):
            for part, dense in (
                (names.gate, "gate_proj"),
                (names.down, "down_proj"),
                (names.up, "up_proj"),
            ):
                self._add_matrix(
                    names.matrix(layer, number, part), layer, dense, number, expert, model
                )
        if names.shared is None:
            return
        for number, (expert, model) in enumerate(shared, len(experts)):
            for dense in FEED_FORWARD:
                name = f"{names.shared.network(layer)}.{dense}.weight"
                self._add_matrix(name, layer, dense, number, expert, model)
        if names.shared.gate:
            self._add_rows(names.shared.gate_weight(layer), layer, len(experts), 1, hidden)

    def _add_rows(self, name: str, layer: int, first: int, count: int, hidden: int) -> None:
        self._shapes[name] = (count, hidden)
        self._router_rows[name] = layer, first

    def _add_matrix(
        self, name: str, layer: int, dense: str, seed: int, expert: ExpertRecipe, model: Model
    ) -> None:
        """The matrix `dense` of `model`, changed as the recipe of its `expert` says."""
        source = feed_forward(layer, dense)
        scale = expert.residual_scale if dense == "down_proj" else 1.0
        view = _View(model.path, model.weights, source, expert.noise_scale, seed, scale)
        self._add(name, model.weights.shapes[source], view)

    def _zeros(self, name: str) -> U8:
        values = np.zeros((1, *self._shapes[name]), np.float32)
        return FORMATS[self.stored_as.name].quantize(values, None)

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
        if name not in self._router_rows:
            return self._zeros(name)
        if self.rows is None:
            raise MergeError(
                f"{self._recipe_path}: the router is not made yet; call MergedSource.route first"
            )
        layer, first = self._router_rows[name]
        rows = np.ascontiguousarray(self.rows[layer, first + start : first + stop])
        stored = FORMATS[self.stored_as.name].quantize(rows, None)
        if not is_finite(stored, self.stored_as.name):
            raise MergeError(
                f"{self._recipe_path}: tensor {name!r} holds weights as large as "
                f"{np.abs(rows).max():.3g}, {_too_large(self.stored_as)}"
            )
        return stored
