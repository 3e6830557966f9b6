"""ggml's own quantizers, in the library of the llama-cpp-python wheel: the truth for bytes."""

from __future__ import annotations

import ctypes
import platform
from functools import cache
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import BlockFormat

FloatPointer = ctypes.POINTER(ctypes.c_float)

# Compilers for arm64 contract a*b+c to one rounding, so there ggml's bytes differ in rare blocks.
HAS_EXACT_GGML = platform.machine().lower() in ("x86_64", "amd64")


@cache
def _library() -> ctypes.CDLL:
    folder = Path(llama_cpp.__file__).parent / "lib"
    (path, *_) = sorted(p for p in folder.iterdir() if "ggml-base" in p.name)
    library = ctypes.CDLL(str(path))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, FloatPointer, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, FloatPointer),
    ]
    return library


def ggml_quantize(
    codec: BlockFormat,
    rows: NDArray[np.float32],
    importance: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """uint8 [rows, row_bytes] of float32 [rows, cols], by ggml_quantize_chunk."""
    rows = np.ascontiguousarray(rows, np.float32)
    count, cols = rows.shape
    out = np.zeros((count, codec.row_bytes(cols)), np.uint8)
    weights = None
    if importance is not None:
        weights = np.ascontiguousarray(importance, np.float32).ctypes.data_as(FloatPointer)
    if count:
        pointer = rows.ctypes.data_as(FloatPointer)
        written = _library().ggml_quantize_chunk(
            codec.type_id, pointer, out.ctypes.data, 0, count, cols, weights
        )
        assert written == out.nbytes
    return out


def ggml_dequantize(codec: BlockFormat, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [rows, cols] of uint8 [rows, row_bytes], by the type's dequantize_row function."""
    count = blocks.shape[1] // codec.block_bytes * codec.block_len
    out = np.empty((len(blocks), count), np.float32)
    function = getattr(_library(), f"dequantize_row_{codec.name.lower()}")
    function.restype, function.argtypes = None, [ctypes.c_void_p, FloatPointer, ctypes.c_int64]
    function(blocks.ctypes.data, out.ctypes.data_as(FloatPointer), out.size)
    return out
