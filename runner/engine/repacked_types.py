"""Which weights llama.cpp repacks for this CPU, found as its own model loader decides it.

The loader builds the multiplication that a weight is used in, puts the weight into one of the CPU's
extra buffers, and asks whether the CPU device supports the result. Nothing is allocated.
"""

from __future__ import annotations

import ctypes
from functools import cache

from gguf import GGMLQuantizationType

from franken_gguf.runner.planning.repacking import COMMON_REPACKS, Repacks

from .backend import EngineError
from .ggml import cpu_device, extra_buffer_types, function
from .probe import Tensor, check_ggml

_Pointer = ctypes.c_void_p
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_COLUMNS, _TOKENS, _EXPERTS = 1024, 512, 2
_F32, _I32 = GGMLQuantizationType.F32, GGMLQuantizationType.I32


class _Memory(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (("nbytes", ctypes.c_size_t), ("buffer", _Pointer), ("no_alloc", ctypes.c_bool))


@cache
def repacks() -> Repacks:
    """By type and number of dimensions, what the rows must be a multiple of to be repacked.

    If the layout of this ggml's tensors is unknown, what most CPUs repack.
    """
    try:
        check_ggml()
    except EngineError:
        return COMMON_REPACKS
    multiple_of: dict[tuple[str, int], int] = {}
    type_name = function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)
    for kind in GGMLQuantizationType:
        if (type_name(kind) or b"").decode().upper() != kind.name:
            continue
        for dimensions in (2, 3):
            multiples = (n for n in _MULTIPLES if _is_repacked(kind, dimensions, n))
            if multiple := next(multiples, None):
                multiple_of[kind.name, dimensions] = multiple
    return multiple_of


def _is_repacked(kind: GGMLQuantizationType, dimensions: int, rows: int) -> bool:
    """Whether an extra buffer accepts a matrix, or experts, of that many `rows`."""
    init = function("ggml_init", _Pointer, _Memory)
    free = function("ggml_free", None, _Pointer)
    overhead = function("ggml_tensor_overhead", ctypes.c_size_t)()
    context = init(_Memory(8 * overhead, None, True))
    try:
        weight, product = _product(context, kind, dimensions, rows)
        return any(_is_supported(weight, product, buffer) for buffer in extra_buffer_types())
    finally:
        free(context)


def _product(
    context: int, kind: GGMLQuantizationType, dimensions: int, rows: int
) -> tuple[int, int]:
    """A weight and a batch multiplied with it."""
    i64 = ctypes.c_int64
    new_2d = function("ggml_new_tensor_2d", _Pointer, _Pointer, ctypes.c_int, i64, i64)
    new_3d = function("ggml_new_tensor_3d", _Pointer, _Pointer, ctypes.c_int, i64, i64, i64)
    if dimensions == 2:
        weight = new_2d(context, kind, _COLUMNS, rows)
        batch = new_2d(context, _F32, _COLUMNS, _TOKENS)
        multiply = function("ggml_mul_mat", _Pointer, *[_Pointer] * 3)
        return weight, multiply(context, weight, batch)
    weight = new_3d(context, kind, _COLUMNS, rows, _EXPERTS)
    batch = new_3d(context, _F32, _COLUMNS, 1, _TOKENS)
    chosen = new_2d(context, _I32, 1, _TOKENS)
    multiply = function("ggml_mul_mat_id", _Pointer, *[_Pointer] * 4)
    return weight, multiply(context, weight, batch, chosen)


def _is_supported(weight: int, product: int, buffer_type: int) -> bool:
    allocate = function("ggml_backend_buft_alloc_buffer", _Pointer, _Pointer, ctypes.c_size_t)
    free = function("ggml_backend_buffer_free", None, _Pointer)
    supports = function("ggml_backend_dev_supports_op", ctypes.c_bool, _Pointer, _Pointer)
    buffer = allocate(buffer_type, 0)
    head = Tensor.from_address(weight)
    head.buffer = buffer
    try:
        return bool(supports(cpu_device(), product))
    finally:
        head.buffer = None
        free(buffer)
