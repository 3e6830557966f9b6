"""The metadata of a checkpoint's GGUF, in the order of llama.cpp's converter."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import (
    ExpertGatingFuncType,
    GGUFValueType,
    GGUFWriter,
    LlamaFileType,
    RopeScalingType,
)

from franken_gguf.quantize.blocks.formats import F32
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.common.json_files import read_object, read_text
from franken_gguf.quantize.gguf_file.values import Metadata, Value, f32, string, u32
from franken_gguf.quantize.hub.hub_cache import folder_name
from franken_gguf.quantize.tokenizer.tokenizer_keys import tokenizer_metadata

from .model_config import ModelConfig

_MAX_CARD = 1 << 20
"""Characters of README.md at most: YAML is slow to parse, and front matter is short."""


def folder_metadata(
    folder: Path,
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    tokenizer_folder: Path | None = None,
) -> Metadata:
    """All keys that the converter writes for an F16 file (general.file_type is 1).

    `shapes` are the GGUF tensors' names and numpy shapes; they give general.size_label. The
    tokenizer is read from `folder` by default. Raises CheckpointError for an invalid model card or
    generation_config.json, and TokenizerError for invalid tokenizer files.
    """
    return {
        "general.architecture": string(config.family.architecture),
        "general.type": string("model"),
        **general_metadata(folder, config, shapes),
        **model_metadata(config),
        "general.quantization_version": u32(gguf.GGML_QUANT_VERSION),
        **tokenizer_metadata(
            tokenizer_folder or folder,
            config.vocab_size,
            is_llama=config.family.architecture == "llama",
        ),
    }


def model_metadata(config: ModelConfig) -> Metadata:
    """The hyperparameters, with general.file_type among them as in the converter."""
    prefix = config.family.architecture
    keys: Metadata = {
        "block_count": u32(config.layers),
        "context_length": u32(config.context_length),
        "embedding_length": u32(config.hidden_size),
        "feed_forward_length": u32(config.feed_forward),
        "attention.head_count": u32(config.heads),
        "attention.head_count_kv": u32(config.kv_heads),
        **_rope_scaling(config),
        "rope.freq_base": f32(config.rope_theta),
        "attention.layer_norm_rms_epsilon": f32(config.rms_norm_eps),
    }
    if config.experts:
        keys["expert_count"] = u32(config.experts)
        keys["expert_used_count"] = u32(config.experts_used)
    if config.scores:
        keys["expert_gating_func"] = u32(ExpertGatingFuncType.SOFTMAX)
    if config.states_head_dim:
        keys["attention.key_length"] = u32(config.head_dim)
        keys["attention.value_length"] = u32(config.head_dim)
    last = {key: _LAST_KEYS[key](config) for key in config.family.keys}
    return {
        **{f"{prefix}.{key}": value for key, value in keys.items()},
        "general.file_type": u32(LlamaFileType.MOSTLY_F16),
        **{f"{prefix}.{key}": value for key, value in last.items()},
    }


_LAST_KEYS: Mapping[str, Callable[[ModelConfig], Value]] = {
    "expert_feed_forward_length": lambda config: u32(config.expert_feed_forward),
    "expert_shared_count": lambda config: u32(config.shared_experts),
    "expert_shared_feed_forward_length": lambda config: u32(config.shared_feed_forward),
    "expert_weights_scale": lambda config: f32(1.0),
    "leading_dense_block_count": lambda config: u32(config.leading_dense),
    "rope.dimension_count": lambda config: u32(config.head_dim),
    "rope.scaling.type": lambda config: string(RopeScalingType.NONE.value),
    "vocab_size": lambda config: u32(config.vocab_size),
}
"""What Family.keys can name."""


def _rope_scaling(config: ModelConfig) -> Metadata:
    """Keys for linear and yarn; llama3 has a tensor instead (rope_freqs)."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind == "llama3":
        return {}
    if scaling.kind == "linear":
        return {
            "rope.scaling.type": string(RopeScalingType.LINEAR.value),
            "rope.scaling.factor": f32(scaling.factor),
        }
    assert scaling.original_context_length is not None
    keys = {
        "rope.scaling.type": string(RopeScalingType.YARN.value),
        "rope.scaling.factor": f32(scaling.factor),
        "rope.scaling.original_context_length": u32(scaling.original_context_length),
    }
    for key, value in (
        ("yarn_ext_factor", scaling.extrapolation_factor),
        ("yarn_attn_factor", scaling.attention_factor),
        ("yarn_beta_fast", scaling.beta_fast),
        ("yarn_beta_slow", scaling.beta_slow),
    ):
        if value is not None:
            keys[f"rope.scaling.{key}"] = f32(value)
    return keys


def rope_freqs(config: ModelConfig) -> F32 | None:
    """The factors of llama3 scaling, float32 [head_dim / 2], or None for other models.

    llama.cpp divides each rotary frequency by its factor (tensor `rope_freqs.weight`). Short waves
    keep their frequency, waves longer than the original context are stretched by `factor`, and
    those between are blended (Llama 3.1's scheme, `_compute_llama3_parameters` in transformers).
    llama.cpp's converter computes in torch's float32, and so does this, step by step. Only the
    power is taken in float64 and rounded: torch's own float32 power depends on the processor, and
    is within one unit of this in the last place.
    """
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "llama3":
        return None
    context, low, high = (
        scaling.original_context_length,
        scaling.low_freq_factor,
        scaling.high_freq_factor,
    )
    assert context is not None and low is not None and high is not None
    f32 = np.float32
    exponents = np.arange(0, config.head_dim, 2, dtype=f32) / f32(config.head_dim)
    powers = np.power(np.float64(f32(config.rope_theta)), exponents.astype(np.float64)).astype(f32)
    frequencies = f32(1) / powers
    wavelengths = f32(1) / frequencies * f32(2 * math.pi)
    smooth = (f32(1) / wavelengths * f32(context) - f32(low)) / f32(high - low)
    blended = f32(1) / ((f32(1) - smooth) / f32(scaling.factor) + smooth)
    factors = np.where(wavelengths > context / low, f32(scaling.factor), blended)
    return np.where(wavelengths < context / high, f32(1), factors).astype(f32)


def general_metadata(
    folder: Path, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]
) -> Metadata:
    """The `general.*` keys: sampling defaults, then name, size, licence, base models and tags.

    gguf.Metadata finds the latter in README.md's front matter, config.json and the folder's name.
    Raises CheckpointError.
    """
    if folder.name in ("", ".."):
        folder = folder.resolve()
    origin = read_object(folder / "config.json", CheckpointError).get("_name_or_path")
    hints = {"_name_or_path": origin} if isinstance(origin, str) else {}
    total, shared, per_expert, experts = parameter_counts(shapes)
    writer = GGUFWriter(None, config.family.architecture)
    name = folder_name(folder)
    card_path = folder / "README.md"
    if card_path.is_file() and len(read_text(card_path, CheckpointError)) > _MAX_CARD:
        raise CheckpointError(
            f"{card_path}: longer than {_MAX_CARD:,} characters; shorten it "
            "or remove it from the folder"
        )
    try:
        with _quiet_gguf():
            card = gguf.Metadata.load_model_card(folder)
            found = gguf.Metadata.apply_metadata_heuristic(
                gguf.Metadata(), card, hints, Path(name), total
            )
            if found.name is None:
                found.name = name
            if found.size_label is None and total > 0:
                found.size_label = gguf.size_label(total, shared, per_expert, experts)
            found.set_gguf_meta_model(writer)
    except Exception as problem:  # gguf does not validate, and PyYAML raises many kinds.
        reason = ascii(" ".join(str(problem).split()))[1:-1][:200]
        raise CheckpointError(
            f"{card_path}: the front matter (between the --- lines) is invalid ({reason}); "
            "fix it, or remove README.md from the folder"
        ) from None
    metadata = sampling_metadata(folder)
    for key, value in writer.kv_data[0].items():
        if key != "general.architecture":
            metadata[key] = _checked(card_path, key, value.value, value.type)
    return metadata


_SAMPLING = {
    "sequence": ("sequence", GGUFValueType.STRING),
    "top_k": ("top_k", GGUFValueType.INT32),
    "top_p": ("top_p", GGUFValueType.FLOAT32),
    "min_p": ("min_p", GGUFValueType.FLOAT32),
    "xtc_probability": ("xtc_probability", GGUFValueType.FLOAT32),
    "xtc_threshold": ("xtc_threshold", GGUFValueType.FLOAT32),
    "temperature": ("temp", GGUFValueType.FLOAT32),
    "penalty_last_n": ("penalty_last_n", GGUFValueType.INT32),
    "penalty_repeat": ("penalty_repeat", GGUFValueType.FLOAT32),
    "mirostat": ("mirostat", GGUFValueType.INT32),
    "mirostat_tau": ("mirostat_tau", GGUFValueType.FLOAT32),
    "mirostat_eta": ("mirostat_eta", GGUFValueType.FLOAT32),
}
"""generation_config.json's names to `general.sampling.*`, in the order of the GGUF."""


def sampling_metadata(folder: Path) -> Metadata:
    """The defaults in generation_config.json as `general.sampling.*`; {} without that file.

    gguf.Metadata is not used here: release 0.19 ignores `repetition_penalty`, Hugging Face's name,
    which the version in llama.cpp's repository reads. Raises CheckpointError.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    advice = read_object(path, CheckpointError)
    advice.setdefault("penalty_repeat", advice.get("repetition_penalty"))
    return {
        f"general.sampling.{key}": _checked(path, name, advice[name], kind)
        for name, (key, kind) in _SAMPLING.items()
        if advice.get(name) is not None
    }


def parameter_counts(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int, int]:
    """Numbers of (all weights, weights outside experts, weights of one expert, experts)."""
    shared = per_expert = everything = experts = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        everything += size
        if "_exps." in name:
            experts = shape[0]
            per_expert += size // experts
        else:
            shared += size
    return everything, shared, per_expert, experts


@contextmanager
def _quiet_gguf() -> Iterator[None]:
    """Disable gguf.Metadata's log: a library should not print."""
    logger = logging.getLogger("metadata")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _checked(path: Path, key: str, data: Any, kind: GGUFValueType) -> Value:
    """`data` as a value of the GGUF type `kind`. Raises CheckpointError if it does not fit."""
    number = isinstance(data, (int, float)) and not isinstance(data, bool)
    if kind is GGUFValueType.ARRAY:
        if isinstance(data, list) and data and all(isinstance(item, str) for item in data):
            return Value(kind, data, GGUFValueType.STRING)
    elif kind is GGUFValueType.STRING:
        # In YAML, `version: 1.0` is a number, but is meant as text.
        if number or isinstance(data, str):
            return Value(kind, str(data))
    elif kind is GGUFValueType.FLOAT32:
        if number and abs(data) <= float(np.finfo(np.float32).max):
            return Value(kind, float(data))
    elif isinstance(data, int) and number:
        least, most = (0, 1 << 32) if kind is GGUFValueType.UINT32 else (-1 << 31, 1 << 31)
        if least <= data < most:
            return Value(kind, data)
    raise CheckpointError(
        f"{path}: the value for {key} cannot be stored as {kind.name.lower()}; fix or remove it"
    )
