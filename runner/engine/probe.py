"""Captures tensors of the running graph: the routers' choices, the input of each layer.

llama.cpp calls back for every node of the graph that it computes (cb_eval): first to ask whether we
need the node, then with its data. ggml has no getters for a tensor's shape, strides and type, so
the struct is read by its layout, which `check_ggml` first checks against the running library.
"""

from __future__ import annotations

import ctypes
import re
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib
from numpy.typing import NDArray

from .backend import EngineError
from .ggml import function

_MAX_DIMS = 4
_MAX_BYTES = 1 << 28  # of one tensor; a batch of 512 over 512 experts is 1 MiB
F32, I32 = 0, 26  # ggml_type


class Tensor(ctypes.Structure):
    """ggml_tensor without its name: 256 of its 336 bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _MAX_DIMS),
        ("nb", ctypes.c_size_t * _MAX_DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
    )


# The size of a tensor with its ggml_object, and two neighbours in the list of operations, which
# moves when any before them is added: together they identify the layout of the struct.
_OVERHEAD = 368
MUL_MAT, MUL_MAT_ID = 29, 30  # ggml_op
_OPERATIONS = {MUL_MAT: b"MUL_MAT", MUL_MAT_ID: b"MUL_MAT_ID"}
_TYPES = {F32: (b"f32", np.float32), I32: (b"i32", np.int32)}


def check_ggml() -> None:
    """Raise EngineError if this ggml may lay out its tensors in a way unknown to us."""
    overhead = function("ggml_tensor_overhead", ctypes.c_size_t)()
    op_name = function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
    type_name = function("ggml_type_name", ctypes.c_char_p, ctypes.c_int)
    if (
        overhead != _OVERHEAD
        or any(op_name(number) != name for number, name in _OPERATIONS.items())
        or any(type_name(number) != name for number, (name, _) in _TYPES.items())
    ):
        raise EngineError(
            "this version of llama.cpp lays its tensors out in an unknown way, so routing and "
            "hidden states cannot be captured; install the llama-cpp-python of constraints.txt"
        )


class Probe(ABC):
    """Captures some nodes of the graph; pass it to an Engine. Raises EngineError, see check_ggml.

    Each evaluation overwrites the last one's tensors. In the last layer llama.cpp computes only the
    tokens whose logits are requested, so that layer has fewer rows: the last ones of the others.
    """

    def __init__(self) -> None:
        check_ggml()
        self.is_paused = False
        """While it is set, evaluations are not captured."""
        self._error: Exception | None = None
        self.callback = lib.ggml_backend_sched_eval_callback(self._on_node)
        """For llama_context_params.cb_eval; lives as long as the probe."""

    @abstractmethod
    def wants(self, tensor: int) -> bool:
        """Whether to capture a node of the graph, which is not computed yet."""

    @abstractmethod
    def capture(self, tensor: int) -> bool:
        """Copy what is needed of a computed node; False if nothing after it has to be computed."""

    def check(self) -> None:
        """Raise the error of the last evaluation's captures, if any. Call it after each."""
        error, self._error = self._error, None
        if error:
            raise EngineError(f"a tensor cannot be captured: {error}") from error

    def _on_node(self, tensor: int, asks: bool, _: object) -> bool:
        # An exception, or returning False with the data, ends the graph silently.
        try:
            if self.is_paused:
                return not asks
            return self.wants(tensor) if asks else self.capture(tensor)
        except Exception as error:
            self._error = error
            return not asks


class NamedProbe(Probe):
    """Captures nodes by their names."""

    names: re.Pattern[bytes]
    """Names of the nodes to capture."""

    def wants(self, tensor: int) -> bool:
        """See Probe.wants."""
        return self.names.fullmatch(tensor_name(tensor)) is not None

    def capture(self, tensor: int) -> bool:
        """See Probe.capture."""
        if name := self.names.fullmatch(tensor_name(tensor)):
            self.copy(name, tensor)
        return True

    @abstractmethod
    def copy(self, name: re.Match[bytes], tensor: int) -> None:
        """Copy what is needed of a computed node whose name matched `names`."""


class RouterProbe(NamedProbe):
    """Captures the routers of every layer."""

    names = re.compile(rb"ffn_moe_(topk|probs)-(\d{1,4})")

    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[int, NDArray[np.int32]] = {}
        """Layer to the experts of each token, the likeliest first: (tokens, n_used)."""
        self.probs: dict[int, NDArray[np.float32]] = {}
        """Layer to each expert's probability: (tokens, n_expert)."""

    def copy(self, name: re.Match[bytes], tensor: int) -> None:
        """See NamedProbe.copy."""
        layer = int(name[2])
        if name[1] == b"topk":
            self.chosen[layer] = read_matrix(tensor, I32)
        else:
            self.probs[layer] = read_matrix(tensor, F32)


class StateProbe(NamedProbe):
    """Captures the states of all tokens at one point of every layer."""

    def __init__(self, names: re.Pattern[bytes], *, shift: int = 0) -> None:
        """The only group in `names` is the layer, to which `shift` is added; unmatched: layer 0."""
        super().__init__()
        self.names = names
        self._shift = shift
        self.states: dict[int, NDArray[np.float32]] = {}
        """Layer to (tokens, hidden)."""

    def copy(self, name: re.Match[bytes], tensor: int) -> None:
        """See NamedProbe.copy."""
        layer = 0 if name[1] is None else int(name[1]) + self._shift
        self.states[layer] = read_matrix(tensor, F32)


def layer_inputs() -> StateProbe:
    """Each layer's input: the embeddings, then the output of the layer before."""
    return StateProbe(re.compile(rb"embd|l_out-(\d{1,4})"), shift=1)


def router_inputs() -> StateProbe:
    """What a router in each layer would read: the state normalised for the feed-forward."""
    return StateProbe(re.compile(rb"ffn_norm-(\d{1,4})"))


def read_matrix(tensor: int, kind: int) -> NDArray[Any]:
    """A copy of a 2-D tensor's data, (ne[1], ne[0]), from any device; a view can have gaps.

    Raises ValueError if its type is not `kind`, a ggml_type, or its shape is not 2-D.
    """
    head = Tensor.from_address(tensor)
    columns, rows, *more = head.ne
    nbytes = function("ggml_nbytes", ctypes.c_size_t, ctypes.c_void_p)(tensor)
    if head.type != kind or more != [1, 1] or not 0 < nbytes <= _MAX_BYTES:
        raise ValueError(f"a tensor of type {head.type}, {columns} x {rows} x {more}")
    dtype = np.dtype(_TYPES[kind][1])
    if (rows - 1) * head.nb[1] + (columns - 1) * head.nb[0] + dtype.itemsize > nbytes:
        raise ValueError(f"strides {list(head.nb)} beyond {nbytes} bytes")
    data = np.empty(nbytes, np.uint8)
    get = function(
        "ggml_backend_tensor_get",
        None,
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t),
    )
    get(tensor, data.ctypes.data, 0, nbytes)
    strides = (head.nb[1], head.nb[0])
    return np.ndarray((rows, columns), dtype, data.data, strides=strides).copy()


def tensor_name(tensor: int) -> bytes:
    """The tensor's name."""
    return bytes(function("ggml_get_name", ctypes.c_char_p, ctypes.c_void_p)(tensor))
