"""A mixture in a GGUF file as float32 matrices, dequantized as they are needed."""

from __future__ import annotations

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
from .mixture_check import KINDS, ROUTER, Sizes, check_kind, check_shapes


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
        tensors = {name: tensor for name, (_, tensor) in self._tensors.items()}
        check_kind(header, tensors)
        self.architecture = header.text("general.architecture")
        self._kind = KINDS[self.architecture]
        self.normalized = self._kind.normalized
        """Whether the weights of a token's experts add up to 1."""
        self.layers = self._integer("block_count")
        self.hidden = self._integer("embedding_length")
        self.experts = self._integer("expert_count")
        self.used = self._integer("expert_used_count")
        self.heads = self._integer("attention.head_count")
        self.kv_heads = self._integer("attention.head_count_kv", self.heads)
        self.head = self._integer("attention.key_length", self.hidden // max(1, self.heads))
        self.eps = self._number("attention.layer_norm_rms_epsilon")
        self._pairs = self._integer("rope.dimension_count", self.head) // 2
        check_shapes(
            header.path,
            tensors,
            Sizes(
                *(self.layers, self.hidden, self.experts, self.used),
                *(self.heads, self.kv_heads, self.head, self._pairs),
            ),
        )

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
        """The embeddings of token ids, [..., hidden]. Raises GGUFError if one has none."""
        matrix = self.matrix("token_embd.weight")
        if tokens.max() >= len(matrix):
            raise GGUFError(
                f"{self.path}: its tokenizer has more tokens than 'token_embd.weight' has rows; "
                "the file is damaged"
            )
        rows: F32 = matrix[tokens]
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
        steps = self._number("rope.freq_base", 10_000.0) ** (-np.arange(self._pairs) / self._pairs)
        factors = self.optional("rope_freqs.weight")
        if factors is not None:
            steps = steps / factors
        if self._header.text(f"{self.architecture}.rope.scaling.type", "linear") == "linear":
            steps = steps / self._number("rope.scaling.factor", 1.0)
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

    def _integer(self, key: str, default: int | None = None) -> int:
        return self._header.integer(f"{self.architecture}.{key}", default)

    def _number(self, key: str, default: float | None = None) -> float:
        key = f"{self.architecture}.{key}"
        value = self._header.metadata.get(key)
        data = default if value is None else value.data
        if isinstance(data, bool) or not isinstance(data, (int, float)) or not data > 0:
            raise GGUFError(f"{self.path}: metadata key {key!r} is missing or not a number above 0")
        return float(data)
