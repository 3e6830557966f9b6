"""SmolLM2-135M-Instruct with every row widened from 576 numbers to 768, by Hugging Face's names.

The widening changes nothing that the model says; K-quants need rows of whole super-blocks of 256.
All arithmetic is plain float32, element by element in a fixed order (no BLAS, no libm): the same
bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
Tensors = Iterator[tuple[str, F16]]

LAYERS = 30
HEAD_DIM = 64
HEADS, KV_HEADS = 9, 3
GROUP = HEADS // KV_HEADS
WIDE_KV_HEADS = 4
WIDE_HEADS = GROUP * WIDE_KV_HEADS
WIDTH = HEADS * HEAD_DIM
WIDE = WIDTH * 4 // 3


# --- The widening --------------------------------------------------------------------------------
#
# The residual stream x of 576 numbers becomes P x of 768, P having orthonormal columns. Whatever
# read x with a matrix W now reads P x with W Pᵀ (Pᵀ P = 1), whatever added W y now adds P W y, and
# embeddings E become E Pᵀ. P is taken block by block: three numbers become four,
#
#               ┌ +1 +1 +1 ┐
#         1     │ +1 -1 -1 │
#         ─  ·  │ -1 +1 -1 │
#         2     └ -1 -1 +1 ┘
#
# so that no column is left empty and every product with ½ is exact.
#
# RMSNorm divides by the root of the mean square, and the mean is now over 768: it comes out
# sqrt(4/3) too large, for an epsilon of 3/4 of the old. That factor and the norm's own weights go
# into the matrices that read it, and the norms become plain ones. Embedding and output matrix are
# no longer equal then, so they are stored both.
#
# Attention gets a fourth key-value head, and its three query heads, of zeros. The output matrix
# does not read them.


def widen(rows: F32) -> F32:
    """[n, 576] -> [n, 768]: every row times Pᵀ."""
    a, b, c = np.moveaxis(rows.reshape(len(rows), -1, 3), 2, 0)
    wide = np.stack([a + b + c, a - b - c, b - a - c, c - a - b], axis=2)
    wide *= np.float32(0.5)
    return wide.reshape(len(rows), -1)


def reads(matrix: F32, norm: F32) -> F32:
    """[n, 576] reading RMSNorm(x) * norm [576] -> [n, 768] reading the plain RMSNorm(P x)."""
    return widen(matrix * (norm * np.sqrt(np.float32(0.75))))


def adds(matrix: F32) -> F32:
    """[576, n] adding to x -> [768, n] adding to P x."""
    return np.ascontiguousarray(widen(np.ascontiguousarray(matrix.T)).T)


def half_rotated(rows: F32, heads: int) -> F32:
    """Rows of Q or K from llama.cpp's order (pairs side by side) to Hugging Face's (in halves)."""
    return rows.reshape(heads, HEAD_DIM // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def zero_rows_to(rows: F32, heads: int) -> F32:
    """`rows` with zero heads after them, `heads` in all."""
    wide = np.zeros((heads * HEAD_DIM, rows.shape[1]), np.float32)
    wide[: len(rows)] = rows
    return wide


# --- The tensors ---------------------------------------------------------------------------------


class Base:
    """The tensors of SmolLM2's GGUF, by name, as float32."""

    def __init__(self, gguf: Path) -> None:
        self._tensors = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}

    def __getitem__(self, name: str) -> F32:
        """Float32 in numpy's order: [rows, columns]."""
        tensor = self._tensors[f"{name}.weight"]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)


def embeddings(base: Base) -> Tensors:
    """Embedding, last norm and output matrix, which SmolLM2 ties to the embedding."""
    table = base["token_embd"]
    yield "model.embed_tokens.weight", in_slices(table, widen)
    yield "model.norm.weight", np.ones(WIDE, np.float16)
    norm = base["output_norm"]
    yield "lm_head.weight", in_slices(table, lambda rows: reads(rows, norm))


def attention(base: Base, n: int) -> Tensors:
    """Attention and norms of layer `n`."""
    name, part = f"model.layers.{n}", f"blk.{n}"
    norm = base[f"{part}.attn_norm"]
    for letter, heads, wide_heads in (
        ("q", HEADS, WIDE_HEADS),
        ("k", KV_HEADS, WIDE_KV_HEADS),
        ("v", KV_HEADS, WIDE_KV_HEADS),
    ):
        rows = base[f"{part}.attn_{letter}"]
        if letter != "v":
            rows = half_rotated(rows, heads)
        wide = zero_rows_to(reads(rows, norm), wide_heads)
        yield f"{name}.self_attn.{letter}_proj.weight", wide.astype(np.float16)
    # The columns of the added heads are zeros, as their rows in V: turned, one is the other.
    output = zero_rows_to(adds(base[f"{part}.attn_output"]).T, WIDE_HEADS).T
    yield f"{name}.self_attn.o_proj.weight", np.ascontiguousarray(output, np.float16)
    yield f"{name}.input_layernorm.weight", np.ones(WIDE, np.float16)
    yield f"{name}.post_attention_layernorm.weight", np.ones(WIDE, np.float16)


def feed_forward(base: Base, n: int) -> Tensors:
    """The feed-forward matrices of layer `n`."""
    part = f"blk.{n}"
    norm = base[f"{part}.ffn_norm"]
    for kind in ("gate", "up"):
        rows = reads(base[f"{part}.ffn_{kind}"], norm)
        yield f"model.layers.{n}.mlp.{kind}_proj.weight", rows.astype(np.float16)
    down = adds(base[f"{part}.ffn_down"])
    yield f"model.layers.{n}.mlp.down_proj.weight", down.astype(np.float16)


def in_slices(table: F32, change: Callable[[F32], F32]) -> F16:
    """`change` of the rows of a large table, a few at a time to spare memory."""
    slices = (table[start : start + 4096] for start in range(0, len(table), 4096))
    return np.concatenate([change(rows).astype(np.float16) for rows in slices])


# --- config.json ---------------------------------------------------------------------------------

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}

CONFIG: dict[str, object] = {
    "attention_dropout": 0.0,
    **TOKENS,
    "head_dim": HEAD_DIM,
    "hidden_act": "silu",
    "hidden_size": WIDE,
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": WIDE_HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": WIDE_KV_HEADS,
    "rms_norm_eps": 0.75e-5,
    "rope_theta": 100000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 49152,
}
"""What every model of this width has; the model type and its own fields are added."""
