"""GGUF files of any shape whose header alone is real: weights are a hole in a sparse file."""

from __future__ import annotations

from functools import cache
from math import prod
from pathlib import Path
from typing import TypedDict

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.values import Metadata, f32, string, u32
from support.models import smollm2

F32, Q4_0 = GGMLQuantizationType.F32, GGMLQuantizationType.Q4_0
Shapes = dict[str, tuple[tuple[int, ...], GGMLQuantizationType]]


class Widths(TypedDict):
    """What every model's shape names."""

    n_embd: int
    n_ff: int
    heads: int
    kv_heads: int


class Shape(Widths, total=False):
    """The shape of a model, as `sparse_model` takes it."""

    layers: int
    experts: int
    used: int


MIXTRAL_4X7B: Shape = {"n_embd": 4096, "n_ff": 14336, "heads": 32, "kv_heads": 8, "experts": 4}


@cache
def _tokenizer() -> Metadata:
    """SmolLM2's, of 49152 tokens: llama.cpp loads nothing without one."""
    metadata = read_header(smollm2()).metadata
    return {key: value for key, value in metadata.items() if key.startswith("tokenizer.")}


def sparse_model(
    path: Path,
    *,
    n_embd: int,
    n_ff: int,
    heads: int,
    kv_heads: int,
    head_size: int = 128,
    layers: int = 32,
    experts: int = 0,
    used: int = 2,
    tied: bool = False,
    kind: GGMLQuantizationType = Q4_0,
) -> Path:
    """A llama or Mixtral of such a shape, which llama.cpp takes with no_alloc."""
    vocab = 49152
    shapes: Shapes = {
        "token_embd.weight": ((vocab, n_embd), kind),
        "output_norm.weight": ((n_embd,), F32),
    }
    if not tied:
        shapes["output.weight"] = ((vocab, n_embd), kind)
    for n in range(layers):
        shapes |= {
            f"blk.{n}.attn_q.weight": ((heads * head_size, n_embd), kind),
            f"blk.{n}.attn_k.weight": ((kv_heads * head_size, n_embd), kind),
            f"blk.{n}.attn_v.weight": ((kv_heads * head_size, n_embd), kind),
            f"blk.{n}.attn_output.weight": ((n_embd, heads * head_size), kind),
            f"blk.{n}.attn_norm.weight": ((n_embd,), F32),
            f"blk.{n}.ffn_norm.weight": ((n_embd,), F32),
        }
        stack, tail = ((experts,), "_exps.weight") if experts else ((), ".weight")
        shapes |= {
            f"blk.{n}.ffn_gate{tail}": ((*stack, n_ff, n_embd), kind),
            f"blk.{n}.ffn_up{tail}": ((*stack, n_ff, n_embd), kind),
            f"blk.{n}.ffn_down{tail}": ((*stack, n_embd, n_ff), kind),
        }
        if experts:
            shapes[f"blk.{n}.ffn_gate_inp.weight"] = ((experts, n_embd), F32)
    keys: Metadata = {
        "general.architecture": string("llama"),
        "llama.block_count": u32(layers),
        "llama.context_length": u32(32768),
        "llama.embedding_length": u32(n_embd),
        "llama.feed_forward_length": u32(n_ff),
        "llama.attention.head_count": u32(heads),
        "llama.attention.head_count_kv": u32(kv_heads),
        "llama.attention.key_length": u32(head_size),
        "llama.attention.value_length": u32(head_size),
        "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
        "llama.rope.dimension_count": u32(head_size),
    }
    if experts:
        keys |= {"llama.expert_count": u32(experts), "llama.expert_used_count": u32(used)}
    return write_sparse(path, keys | _tokenizer(), shapes)


def write_sparse(path: Path, keys: Metadata, shapes: Shapes) -> Path:
    """A GGUF file of these keys and tensors, its weights a hole."""
    table, offset = [], 0
    for name, (shape, kind) in shapes.items():
        table.append((name, shape, kind, offset))
        block_len, block_bytes = GGML_QUANT_SIZES[kind]
        offset += padded(prod(shape) // block_len * block_bytes)
    header = encode_header(keys, table)
    path.write_bytes(header)
    with path.open("rb+") as file:
        file.truncate(len(header) + offset)
    return path
