"""Captures the inputs of the graph's matrix multiplications, as llama.cpp's imatrix tool does."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ggml import function
from .probe import F32, I32, MUL_MAT, MUL_MAT_ID, Probe, Tensor, read_matrix, tensor_name

# llama.cpp's imatrix tool leaves out smaller batches of weights that are not experts.
_MIN_ROWS = 16
_OUTPUT = "output.weight"


@dataclass(frozen=True)
class MatmulInput:
    """The input of one multiplication by a weight."""

    weight: str
    """The weight's name."""
    matrices: int
    """The number of matrices in the weight."""
    rows: NDArray[np.float32]
    """(rows, cols) of one matrix, (batches, rows, cols) of several; (tokens, 1 or slots, cols) of
    experts. Valid during the callback only."""
    experts: NDArray[np.int32] | None
    """The experts of each token, (tokens, slots); None if the weight is not a stack of experts."""
    source: int
    """Equal for multiplications of the same evaluation that have the same input."""


class MatmulInputs(Probe):
    """Hands on each input that an importance matrix is made of.

    These are the weights of layers, and with `with_output` that of the output. What comes after the
    last of them is not computed after the first evaluation: read no logits.
    """

    def __init__(self, *, with_output: bool = False) -> None:
        super().__init__()
        self._receive: Callable[[MatmulInput], None] = lambda _: None
        self._with_output = with_output
        self._count, self._total = 0, 0  # multiplications of this evaluation, and of the first

    def begin(self, receive: Callable[[MatmulInput], None]) -> None:
        """Before each evaluation: `receive` is to be called with its inputs."""
        self._receive = receive
        # The first evaluation shows how many multiplications there are.
        self._total = self._total or self._count
        self._count = 0

    def wants(self, tensor: int) -> bool:
        """See Probe.wants."""
        node = Tensor.from_address(tensor)
        if node.op == MUL_MAT_ID:
            return True
        if node.op != MUL_MAT:
            return False
        inputs = Tensor.from_address(node.src[1])
        if inputs.ne[1] < _MIN_ROWS or inputs.type != F32:
            return False
        name = _weight_name(node.src[0])
        return name.startswith("blk.") or (self._with_output and name == _OUTPUT)

    def capture(self, tensor: int) -> bool:
        """See Probe.capture."""
        node = Tensor.from_address(tensor)
        weight, inputs = Tensor.from_address(node.src[0]), Tensor.from_address(node.src[1])
        name = _weight_name(node.src[0])
        rows = _read(node.src[1], inputs)
        if node.op == MUL_MAT_ID:
            experts = read_matrix(node.src[2], I32)
            matrices = int(weight.ne[2])
            received = MatmulInput(name, matrices, rows[0], experts, node.src[1])
        else:
            matrices = int(weight.ne[2] * weight.ne[3])
            cols = rows.shape[-1]
            merged = rows.reshape(-1, cols) if matrices == 1 else _by_matrix(rows, weight)
            received = MatmulInput(name, matrices, merged, None, node.src[1])
        self._receive(received)
        self._count += 1
        return self._count != self._total


def _by_matrix(rows: NDArray[np.float32], weight: Tensor) -> NDArray[np.float32]:
    """(matrices, rows, cols) of rows (batches, batches, rows, cols), as ggml broadcasts weights."""
    *batches, _, cols = rows.shape
    outer, inner = int(weight.ne[3]), int(weight.ne[2])
    split = rows.reshape(batches[0] // outer, outer, batches[1] // inner, inner, -1, cols)
    return split.transpose(1, 3, 0, 2, 4, 5).reshape(outer * inner, -1, cols)


def _weight_name(tensor: int) -> str:
    """The weight's name; llama.cpp writes CUDA0#blk.0.attn_k.weight#0 for a copy of it."""
    name = tensor_name(tensor).decode(errors="replace")
    return name.split("#")[1] if "#" in name else name


def _read(tensor: int, head: Tensor) -> NDArray[np.float32]:
    """An F32 tensor's data, (ne[3], ne[2], ne[1], ne[0]); a view of ggml's memory if it can be.

    Raises ValueError for gaps between the columns.
    """
    if head.type != F32 or head.nb[0] != np.float32().nbytes:
        raise ValueError(f"an input of type {head.type} with strides {list(head.nb)}")
    nbytes = function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)(tensor)
    if function("ggml_backend_buffer_is_host", ctypes.c_bool, ctypes.c_void_p)(head.buffer):
        data = (ctypes.c_uint8 * nbytes).from_address(head.data)
    else:
        data = (ctypes.c_uint8 * nbytes)()
        get = function(
            "ggml_backend_tensor_get",
            None,
            *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t),
        )
        get(tensor, ctypes.addressof(data), 0, nbytes)
    return np.ndarray(tuple(head.ne)[::-1], np.float32, data, strides=tuple(head.nb)[::-1])
