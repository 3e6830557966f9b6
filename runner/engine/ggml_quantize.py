"""ggml's own quantizer, in the installed llama.cpp, as a function that worker processes can run.

It writes the bytes that quantize/blocks/ writes. A worker loads the one library that it needs, not
all of llama.cpp.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8

from .backend import EngineError
from .cpu_check import libraries

_FloatPointer = ctypes.POINTER(ctypes.c_float)


@dataclass(frozen=True)
class GgmlQuantize:
    """`BlockFormat.quantize` of the format `name`, by ggml_quantize_chunk."""

    name: str
    library: str
    """Path of libggml-base."""

    def __call__(self, rows: F32, importance: F32 | None) -> U8:
        """Blocks, uint8 [n, row_bytes], of rows, float32 [n, cols] C-contiguous."""
        codec = FORMATS[self.name]
        count, cols = rows.shape
        out = np.zeros((count, codec.row_bytes(cols)), np.uint8)
        weights = None
        if importance is not None:
            importance = np.ascontiguousarray(importance, np.float32)
            weights = importance.ctypes.data_as(_FloatPointer)
        _quantize_chunk(self.library)(
            codec.type_id,
            rows.ctypes.data_as(_FloatPointer),
            out.ctypes.data,
            0,
            count,
            cols,
            weights,
        )
        return out


def quantize_library() -> str:
    """The path of the installed libggml-base. Raises EngineError."""
    for path in libraries():
        if "ggml-base" in path.name:
            return str(path)
    raise EngineError("the installed llama-cpp-python has no libggml-base; use --kernels numpy")


@cache
def _quantize_chunk(library: str) -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(library).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [
        *(ctypes.c_int, _FloatPointer, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _FloatPointer),
    ]
    return function
