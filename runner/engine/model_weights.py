"""The weight matrices of a loaded model, read and overwritten in memory.

Captured from the graph of the first evaluation: each weight is the first input of the operation
that uses it. The model must not be mapped (the file's pages are read-only) nor repacked.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ggml import function
from .probe import Probe, Tensor, tensor_name

U8 = NDArray[np.uint8]

_Pointer = ctypes.c_void_p


class ModelWeights(Probe):
    """The weights that the graph uses, by name; pass it to an Engine and evaluate something.

    They live as long as the engine.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tensors: dict[str, int] = {}

    def wants(self, tensor: int) -> bool:
        """Note the weight that a node uses; the node's own data is not needed."""
        weight = Tensor.from_address(tensor).src[0]
        name = tensor_name(weight) if weight else b""
        if name.endswith(b".weight"):
            self._tensors[name.decode()] = weight
        return False

    def capture(self, tensor: int) -> bool:
        """See Probe.capture; no node is asked for."""
        return True

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def read(self, name: str) -> U8:
        """A copy of all bytes of a weight."""
        tensor = self._tensors[name]
        data = np.empty(_nbytes(tensor), np.uint8)
        _transfer("ggml_backend_tensor_get")(tensor, data.ctypes.data, 0, data.nbytes)
        return data

    def write(self, name: str, data: U8) -> None:
        """Replace all bytes of a weight."""
        tensor = self._tensors[name]
        assert data.flags.c_contiguous and data.nbytes == _nbytes(tensor)
        _transfer("ggml_backend_tensor_set")(tensor, data.ctypes.data, 0, data.nbytes)


def _nbytes(tensor: int) -> int:
    return int(function("ggml_nbytes", ctypes.c_size_t, _Pointer)(tensor))


def _transfer(name: str) -> Any:
    return function(name, None, _Pointer, _Pointer, ctypes.c_size_t, ctypes.c_size_t)
