"""Weights with a PEFT LoRA adapter merged in: W + scale * B @ A, some rows at a time.

    adapter_config.json          r, lora_alpha, use_rslora, alpha_pattern
    adapter_model.safetensors    base_model.model.<module>.lora_A.weight    [r, in]
                                 base_model.model.<module>.lora_B.weight    [out, r]

scale is lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora (Hu et al. 2021; Kalajdzievski
2023). The product is summed rank by rank, element by element: the bytes do not depend on the
machine, nor on how the rows are divided among jobs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.float_types import is_finite
from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8
from franken_gguf.quantize.checkpoint.named_tensors import Weights
from franken_gguf.quantize.checkpoint.safetensors_folder import SafetensorsFolder
from franken_gguf.quantize.common.errors import MergeError, shown
from franken_gguf.quantize.common.json_files import read_object

_PREFIX = "base_model.model."
_TENSOR = re.compile(rf"{re.escape(_PREFIX)}(.+)\.lora_([AB])\.weight")
_MOST_RANK = 4096
# Weights in a tile: it stays in a core's cache while the ranks are added to it.
_TILE = 1 << 17
# Settings that change what an adapter's weights mean, with their supported values. The other
# initializations (pissa, olora, corda, loftq) subtract something from the base model's weights, and
# the adapter belongs to what remains.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None, []),
    "bias": ("none", None),
    "fan_in_fan_out": (False, None),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
    "layer_replication": (None, []),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "use_rslora": (True, False, None),
}
# PEFT's names for variants of LoRA, including future ones; their default is off.
_VARIANT = re.compile(r"use_\w+|\w+_config")
_OFF: tuple[Any, ...] = (None, False, {})
# Settings of the training alone: the saved weights are those of a plain LoRA.
_TRAINING_SETTINGS = (
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "runtime_config",
)


@dataclass(frozen=True)
class _Update:
    """What an adapter adds to one tensor: scale times the product of its tensors `b` and `a`."""

    a: str
    b: str
    scale: float


class LoraWeights:
    """`weights` with the adapter in `folder` merged in. See Weights."""

    def __init__(self, weights: Weights, folder: Path) -> None:
        """Read only headers. Raises MergeError."""
        self._weights = weights
        self._folder = folder
        self._adapter = SafetensorsFolder(folder, "adapter_model")
        self._updates = _updates(folder, self._adapter, weights.shapes)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """See Weights.shapes."""
        return self._weights.shapes

    @property
    def files(self) -> set[Path]:
        """See Weights.files."""
        return self._weights.files | self._adapter.files

    @property
    def changed(self) -> set[str]:
        """The names of the tensors that the adapter changes."""
        return set(self._updates)

    def dtype(self, name: str) -> GGMLQuantizationType:
        """See Weights.dtype; float32 for a tensor that the adapter changes."""
        return GGMLQuantizationType.F32 if name in self._updates else self._weights.dtype(name)

    def read(self, name: str, start: int, stop: int) -> U8:
        """See Weights.read."""
        stored = self._weights.read(name, start, stop)
        update = self._updates.get(name)
        if update is None:
            return stored
        rows = FORMATS[self._weights.dtype(name).name].dequantize(stored)
        a = self._matrix(update.a, 0, self._adapter.shapes[update.a][0])
        b = self._matrix(update.b, start, stop)
        # The caller checks for overflow: it knows what the rows are for.
        with np.errstate(over="ignore", invalid="ignore"):
            return _add_product(rows, a, b * np.float32(update.scale)).view(np.uint8)

    def _matrix(self, name: str, start: int, stop: int) -> F32:
        kind = self._adapter.dtype(name).name
        stored = self._adapter.read(name, start, stop)
        if not is_finite(stored, kind):
            raise MergeError(
                f"{self._folder}: tensor {name!r} holds NaN or Inf; the adapter is broken, "
                "download or train it again"
            )
        return FORMATS[kind].dequantize(stored)


def _add_product(rows: F32, a: F32, b: F32) -> F32:
    """`rows` [n, in] + `b` [n, r] @ `a` [r, in], one tile of rows after another, in place."""
    rows = np.ascontiguousarray(rows)
    step = max(_TILE // rows.shape[1], 1)
    for start in range(0, len(rows), step):
        tile = rows[start : start + step]
        factors = b[start : start + step]
        delta = factors[:, :1] * a[0]
        for rank in range(1, len(a)):
            delta += factors[:, rank : rank + 1] * a[rank]
        tile += delta
    return rows


def _updates(
    folder: Path, adapter: SafetensorsFolder, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, _Update]:
    config_path = folder / "adapter_config.json"
    config = read_object(config_path, MergeError)
    if config.get("peft_type") != "LORA":
        raise MergeError(f"{config_path}: peft_type is {shown(config.get('peft_type'))}, not LORA")
    for key, value in config.items():
        if not _is_supported(key, value):
            raise MergeError(
                f"{config_path}: {key[:60]} {shown(value)} is not supported; merge the "
                "adapter with PEFT and name the merged model instead"
            )
    modules: dict[str, dict[str, str]] = {}
    for name in adapter.shapes:
        match = _TENSOR.fullmatch(name)
        if not match:
            raise MergeError(
                f"{folder}: tensor {name!r} is not supported: not a LoRA A or B; merge the adapter "
                "with PEFT and name the merged model instead"
            )
        modules.setdefault(match[1], {})[match[2]] = name
    return {
        f"{module}.weight": _update(folder, config, module, pair, adapter.shapes, shapes)
        for module, pair in modules.items()
    }


def _is_supported(key: str, value: Any) -> bool:
    if key in _TRAINING_SETTINGS:
        return True
    values = _SUPPORTED.get(key) or (_OFF if _VARIANT.fullmatch(key) else (value,))
    # Compare types too: 1 == True in Python.
    return any(type(value) is type(allowed) and value == allowed for allowed in values)


def _update(
    folder: Path,
    config: dict[str, Any],
    module: str,
    pair: dict[str, str],
    adapter: Mapping[str, tuple[int, ...]],
    shapes: Mapping[str, tuple[int, ...]],
) -> _Update:
    if len(pair) < 2:
        raise MergeError(
            f"{folder}: {module} has only lora_{next(iter(pair))}, not both lora_A and lora_B; the "
            "adapter is incomplete, download it again"
        )
    a, b = adapter[pair["A"]], adapter[pair["B"]]
    expected = shapes.get(f"{module}.weight")
    if expected is None:
        raise MergeError(f"{folder}: {module} is not in the model that the adapter is applied to")
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or (b[0], a[1]) != expected or a[0] > _MOST_RANK:
        raise MergeError(
            f"{folder}: {module}: lora_A {list(a)} and lora_B {list(b)} do not fit the model's "
            f"{list(expected)}; the adapter was trained on another model"
        )
    return _Update(pair["A"], pair["B"], _scale(folder, config, module, a[0]))


def _scale(folder: Path, config: dict[str, Any], module: str, rank: int) -> float:
    alpha: Any = config.get("lora_alpha")
    for pattern, value in _pattern(folder, config).items():
        if re.fullmatch(rf"(.*\.)?{pattern}", module):
            alpha = value
            break
    is_number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not is_number or not 0 < alpha < 1 << 20:
        raise MergeError(f"{folder / 'adapter_config.json'}: lora_alpha is not a number above 0")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") is True else rank)


def _pattern(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The values of alpha_pattern. PEFT allows regular expressions as keys, we only plain names."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"[\w.]+", key) for key in patterns):
        raise MergeError(
            f"{folder / 'adapter_config.json'}: alpha_pattern: only names of modules are "
            "supported as keys; merge the adapter with PEFT and name the merged model instead"
        )
    return patterns
