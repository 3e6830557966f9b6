"""llama.cpp itself, from the llama-cpp-python wheel: the truth for whole files."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

# Drops llama.cpp's table of tensors, which would bury a failing test's own words.
_QUIET = llama_cpp.llama_log_callback(lambda level, text, user_data: None)


@contextmanager
def _quietly() -> Iterator[None]:
    # The log is one for the process, and the engine's tests read its errors.
    callback, data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(callback), ctypes.byref(data))
    llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
    try:
        yield
    finally:
        llama_cpp.llama_log_set(callback, data)


# llama_model_kv_override_type
_INTEGER, _STRING = 0, 3


class _TensorOverride(ctypes.Structure):
    _fields_ = (("pattern", ctypes.c_char_p), ("type", ctypes.c_int))


def llama_quantize(
    source: Path,
    target: Path,
    file_type: LlamaFileType,
    tensor_types: Sequence[tuple[str, GGMLQuantizationType]] = (),
    imatrix: Mapping[str, NDArray[np.float32]] | None = None,
    keys: Mapping[str, str | int] | None = None,
    **params: Any,
) -> Path:
    """Run llama_model_quantize; `params` are fields of llama_model_quantize_params.

    `imatrix` maps a tensor's name to its weights, [cols] or [experts * cols]; `keys` are metadata
    to add, as llama-quantize adds the facts of its imatrix.
    """
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = int(file_type)
    settings.nthread = 1
    for name, value in params.items():
        setattr(settings, name, value)
    if tensor_types:
        overrides = (_TensorOverride * (len(tensor_types) + 1))()
        for override, (pattern, kind) in zip(overrides, tensor_types, strict=False):
            override.pattern, override.type = pattern.encode(), int(kind)
        settings.tt_overrides = ctypes.cast(overrides, type(settings.tt_overrides))
    if imatrix is not None:
        table = (llama_cpp.llama_model_imatrix_data * (len(imatrix) + 1))()
        for row, (name, values) in zip(table, imatrix.items(), strict=False):
            row.name, row.size = name.encode(), values.size
            row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        settings.imatrix = ctypes.cast(table, type(settings.imatrix))
    if keys:
        added = (llama_cpp.llama_model_kv_override * (len(keys) + 1))()
        for entry, (key, value) in zip(added, keys.items(), strict=False):
            entry.key = key.encode()
            entry.tag = _STRING if isinstance(value, str) else _INTEGER
            if isinstance(value, str):
                entry.value.val_str = value.encode()
            else:
                entry.value.val_i64 = value
        settings.kv_overrides = ctypes.cast(added, type(settings.kv_overrides))
    with _quietly():
        status = llama_cpp.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(settings)
        )
    assert status == 0, f"llama_model_quantize failed on {source}"
    return target
