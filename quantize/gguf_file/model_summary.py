"""Summarize a model from its GGUF header: parameters, experts, sizes, types. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np
from gguf import GGUFValueType

from franken_gguf.quantize.gguf_file.header import Header, TensorInfo
from franken_gguf.quantize.gguf_file.values import Value

_LONG_ARRAY = 64
_SHOWN_ITEMS = 8

# The first pattern found in a tensor's name decides its group.
_GROUPS = (
    ("router", ("ffn_gate_inp",)),
    ("experts", ("_exps.",)),
    ("norms", ("_norm.",)),
    ("attention", (".attn_",)),
    ("feed-forward", (".ffn_",)),
    ("embeddings", ("token_embd.", "output.")),
)


@dataclass(frozen=True)
class Group:
    """Tensors with one role in the model, such as attention."""

    name: str
    tensors: int
    parameters: int
    nbytes: int
    types: dict[str, int]
    """Type name -> number of tensors, the most frequent first."""


@dataclass(frozen=True)
class Summary:
    """A model as its header describes it. Sizes are in bytes; a parameter is one weight."""

    file: str
    file_bytes: int
    name: str | None
    architecture: str
    layers: int
    context_length: int
    experts: int
    """0 for a dense model."""
    experts_used: int
    parameters: int
    active_parameters: int
    """Weights used for one token: all except those of the experts that are not selected."""
    bits_per_weight: float
    groups: list[Group]
    types: dict[str, int]
    metadata: dict[str, Any]


def summarize(header: Header) -> Summary:
    """Summarize `header`'s model. Raises GGUFError if a key has a value of the wrong type."""
    architecture = header.text("general.architecture", "unknown")
    experts = header.integer(f"{architecture}.expert_count", 0)
    used = header.integer(f"{architecture}.expert_used_count", 0)
    parameters = sum(prod(tensor.shape) for tensor in header.tensors)
    in_experts = sum(prod(t.shape) for t in header.tensors if tensor_group(t.name) == "experts")
    idle = in_experts * (experts - used) // experts if 0 < used <= experts else 0
    nbytes = sum(tensor.nbytes for tensor in header.tensors)
    return Summary(
        file=str(header.path),
        file_bytes=header.file_bytes,
        name=header.text("general.name", "") or None,
        architecture=architecture,
        layers=header.integer(f"{architecture}.block_count", 0),
        context_length=header.integer(f"{architecture}.context_length", 0),
        experts=experts,
        experts_used=used,
        parameters=parameters,
        active_parameters=parameters - idle,
        bits_per_weight=8 * nbytes / parameters if parameters else 0.0,
        groups=_groups(header.tensors),
        types=_types(header.tensors),
        metadata={key: _shown(value) for key, value in header.metadata.items()},
    )


def tensor_group(name: str) -> str:
    """The role of the tensor `name`: "attention", "experts", "router" and so on, or "other"."""
    for group, patterns in _GROUPS:
        if any(pattern in name for pattern in patterns):
            return group
    return "other"


def _groups(tensors: tuple[TensorInfo, ...]) -> list[Group]:
    members: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        members.setdefault(tensor_group(tensor.name), []).append(tensor)
    groups = [
        Group(
            name=name,
            tensors=len(group),
            parameters=sum(prod(tensor.shape) for tensor in group),
            nbytes=sum(tensor.nbytes for tensor in group),
            types=_types(tuple(group)),
        )
        for name, group in members.items()
    ]
    return sorted(groups, key=lambda group: -group.nbytes)


def _types(tensors: tuple[TensorInfo, ...]) -> dict[str, int]:
    return dict(Counter(tensor.type.name for tensor in tensors).most_common())


def _shown(value: Value) -> Any:
    """A value for JSON: of a long array its length and first items, bytes as escaped text."""
    kind = value.item_type or value.type
    if not isinstance(value.data, list):
        return _item(value.data, kind)
    if len(value.data) <= _LONG_ARRAY:
        return [_item(item, kind) for item in value.data]
    first = [_item(item, kind) for item in value.data[:_SHOWN_ITEMS]]
    return {"items": len(value.data), "first": first}


def _item(item: Any, kind: GGUFValueType) -> Any:
    if isinstance(item, bytes):
        return item.decode(errors="backslashreplace")
    if isinstance(item, float):
        # JSON has neither NaN nor infinity; a float32 is shown as its shortest decimal.
        short = str(np.float32(item)) if kind is GGUFValueType.FLOAT32 else str(item)
        return float(short) if isfinite(item) else short
    return item
