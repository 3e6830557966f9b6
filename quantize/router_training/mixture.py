"""A mixture in a GGUF file as float32 matrices, dequantized as they are needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32, FORMATS
from franken_gguf.quantize.common.errors import CheckpointError, GGUFError
from franken_gguf.quantize.common.files import read_at
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo
from franken_gguf.quantize.gguf_file.split_files import parts

from .layers import Expert, Rope

ROUTER = "ffn_gate_inp.weight"


@dataclass(frozen=True)
class _Kind:
    """What an architecture does that its metadata do not say."""

    halves: bool
    """See Rope."""
    normalized: bool
    """Whether the weights of a token's experts add up to 1."""


_KINDS: Mapping[str, _Kind] = {
    "llama": _Kind(halves=False, normalized=True),
    "qwen2moe": _Kind(halves=True, normalized=False),
    "qwen3moe": _Kind(halves=True, normalized=True),
}
_OF_LAYER = re.compile(
    r"blk\.\d{1,4}\.("
    r"(attn_norm|attn_q_norm|attn_k_norm|ffn_norm|post_attention_norm)\.weight"
    r"|attn_[qkv]\.(weight|bias)|attn_output\.weight"
    r"|ffn_(gate|up|down)_exps\.weight|ffn_(gate|up|down)_shexp\.weight"
    r"|ffn_gate_inp(_shexp)?\.weight)"
)
_OF_MODEL = ("token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight")


class Mixture:
    """The shape of a mixture and its weights.

    Dequantized matrices are kept until they take `memory` bytes; the rest is read again each time.
    Raises CheckpointError for a model whose routers cannot be trained, GGUFError for a damaged one.
    """

    def __init__(self, header: Header, memory: int) -> None:
        self.path = header.path
        self._header, self._memory = header, memory
        self._kept: dict[str, F32] = {}
        self._tensors: dict[str, tuple[Path, TensorInfo]] = {
            tensor.name: (part.path, tensor) for part in parts(header) for tensor in part.tensors
        }
        self.architecture = header.text("general.architecture")
        self.layers = self._integer("block_count")
        self._check()
        self.hidden = self._integer("embedding_length")
        self.experts = self._integer("expert_count")
        self.used = self._integer("expert_used_count")
        self.heads = self._integer("attention.head_count")
        self.kv_heads = self._integer("attention.head_count_kv", self.heads)
        self.head = self._integer("attention.key_length", self.hidden // self.heads)
        self.eps = self._number("attention.layer_norm_rms_epsilon")
        self._check_shapes()
        self._kind = _KINDS[self.architecture]
        self.normalized = self._kind.normalized

    def matrix(self, name: str) -> F32:
        """A tensor of one or two dimensions. Raises ReadError, CheckpointError for NaN or Inf."""
        return self._dequantized(name, 0, 1)

    def optional(self, name: str) -> F32 | None:
        """The tensor `name`, or None if the model has none."""
        return self.matrix(name) if name in self._tensors else None

    def output(self) -> F32:
        """The matrix of the logits, [vocabulary, hidden]."""
        return self.matrix(self._output)

    def embeddings(self, tokens: NDArray[np.int64]) -> F32:
        """The embeddings of token ids, [..., hidden]."""
        rows: F32 = self.matrix("token_embd.weight")[tokens]
        return rows

    def expert(self, layer: int, number: int) -> Expert:
        """One expert of a layer."""
        return Expert(
            *(
                self._dequantized(f"blk.{layer}.ffn_{projection}_exps.weight", number, self.experts)
                for projection in ("gate", "up", "down")
            )
        )

    def shared_expert(self, layer: int) -> tuple[Expert, F32] | None:
        """The expert that works on every token, and the row of its gate, [1, hidden]."""
        if f"blk.{layer}.ffn_gate_shexp.weight" not in self._tensors:
            return None
        names = (f"blk.{layer}.ffn_{name}_shexp.weight" for name in ("gate", "up", "down"))
        gate = self.matrix(f"blk.{layer}.ffn_gate_inp_shexp.weight").reshape(1, -1)
        return Expert(*map(self.matrix, names)), gate

    def ffn_norm(self, layer: int) -> F32:
        """The weight of the norm before the router."""
        name = f"blk.{layer}.ffn_norm.weight"
        return self.matrix(
            name if name in self._tensors else f"blk.{layer}.post_attention_norm.weight"
        )

    def rows(self) -> F32:
        """The routers, [layers, experts, hidden]."""
        return np.stack([self.matrix(f"blk.{n}.{ROUTER}") for n in range(self.layers)])

    def rope(self, tokens: int) -> Rope:
        """The rotations of the positions 0 to `tokens`."""
        pairs = self._integer("rope.dimension_count", self.head) // 2
        steps = self._number("rope.freq_base", 10_000.0) ** (-np.arange(pairs) / pairs)
        factors = self.optional("rope_freqs.weight")
        steps = steps / (self._number("rope.scaling.factor", 1.0) if factors is None else factors)
        angles = np.outer(np.arange(tokens), steps)[:, None]
        return Rope(
            np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), self._kind.halves
        )

    @property
    def _output(self) -> str:
        return "output.weight" if "output.weight" in self._tensors else "token_embd.weight"

    def _dequantized(self, name: str, number: int, of: int) -> F32:
        """Part `number` of the `of` equal parts of a tensor."""
        key = f"{name}/{number}"
        if key in self._kept:
            return self._kept[key]
        path, tensor = self._tensors[name]
        nbytes = tensor.nbytes // of
        raw = read_at(path, tensor.offset + number * nbytes, nbytes, name)
        shape = tensor.shape[-2:]
        block_format = FORMATS[tensor.type.name]
        values = block_format.dequantize(raw.reshape(prod(shape[:-1]), -1)).reshape(shape)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{path}: tensor {name!r} holds NaN or Inf; the model is broken, download or "
                "convert it again"
            )
        if values.nbytes <= self._memory:
            self._memory -= values.nbytes
            self._kept[key] = values
        return values

    def _check(self) -> None:
        path = self.path
        routers = [name for name in self._tensors if name.endswith(f".{ROUTER}")]
        if not routers:
            raise CheckpointError(
                f"{path}: has no router (blk.N.{ROUTER}), so it is not a mixture of experts; "
                "name one"
            )
        if self.architecture not in _KINDS:
            raise CheckpointError(
                f"{path}: routers of architecture {self.architecture!r} cannot be trained; "
                f"only those of {', '.join(_KINDS)}"
            )
        scaling = self._header.text(f"{self.architecture}.rope.scaling.type", "none")
        if scaling not in ("none", "linear"):
            raise CheckpointError(
                f"{path}: routers of a model with rope scaling {scaling!r} cannot be trained"
            )
        names = [*_OF_MODEL[:2], *(f"blk.{n}.{ROUTER}" for n in range(self.layers))]
        for name in names:
            if name not in self._tensors:
                raise CheckpointError(
                    f"{path}: tensor {name!r} is missing, and routers are trained only where "
                    "every layer has one"
                )
        for name, (_, tensor) in self._tensors.items():
            if name not in _OF_MODEL and not _OF_LAYER.fullmatch(name):
                raise CheckpointError(
                    f"{path}: tensor {name!r} is of a kind with which routers cannot be trained"
                )
            if name.endswith(f".{ROUTER}") and tensor.type.name != "F32":
                raise CheckpointError(
                    f"{path}: router {name!r} is {tensor.type.name}, not F32; convert the model "
                    "with franken-gguf convert or llama.cpp first"
                )
            if tensor.type.name not in FORMATS:
                raise CheckpointError(
                    f"{path}: tensor {name!r} is {tensor.type.name}, which cannot be read; "
                    "give another quant of the model"
                )

    def _check_shapes(self) -> None:
        """Everything that is multiplied has the size that the metadata say."""
        hidden, q, kv = self.hidden, self.heads * self.head, self.kv_heads * self.head
        if not (0 < self.used <= self.experts and self.kv_heads and not self.heads % self.kv_heads):
            raise GGUFError(f"{self.path}: its metadata contradict each other; download it again")
        for n in range(self.layers):
            wanted = {
                ROUTER: (self.experts, hidden),
                "attn_norm.weight": (hidden,),
                "attn_q.weight": (q, hidden),
                "attn_k.weight": (kv, hidden),
                "attn_v.weight": (kv, hidden),
                "attn_output.weight": (hidden, q),
            }
            for name, shape in wanted.items():
                self._check_shape(f"blk.{n}.{name}", shape)
            ff = self._shape(f"blk.{n}.ffn_gate_exps.weight")[1:2]
            for projection in ("gate", "up"):
                name = f"blk.{n}.ffn_{projection}_exps.weight"
                self._check_shape(name, (self.experts, *ff, hidden))
            self._check_shape(f"blk.{n}.ffn_down_exps.weight", (self.experts, hidden, *ff))
        self._check_shape(self._output, (*self._shape("token_embd.weight")[:1], hidden))

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._tensors:
            raise GGUFError(f"{self.path}: tensor {name!r} is missing; download it again")
        return self._tensors[name][1].shape

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if (found := self._shape(name)) != shape:
            raise GGUFError(
                f"{self.path}: tensor {name!r} is {found}, not {shape}; the file is damaged"
            )

    def _integer(self, key: str, default: int | None = None) -> int:
        return self._header.integer(f"{self.architecture}.{key}", default)

    def _number(self, key: str, default: float | None = None) -> float:
        key = f"{self.architecture}.{key}"
        value = self._header.metadata.get(key)
        data = default if value is None else value.data
        if isinstance(data, bool) or not isinstance(data, (int, float)) or not data > 0:
            raise GGUFError(f"{self.path}: metadata key {key!r} is missing or not a number above 0")
        return float(data)
