"""GGUF files of any shape whose header alone is real: weights are a hole in a sparse file."""

from __future__ import annotations

from collections.abc import Sequence
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
    shared: int
    architecture: str
    head_size: int


QWEN2_MOE_4X7B: Shape = {
    "n_embd": 3584,
    "n_ff": 18944,
    "heads": 28,
    "kv_heads": 4,
    "experts": 4,
    "shared": 18944,
    "architecture": "qwen2moe",
}
DEEPSEEK_16B: Shape = {
    "n_embd": 2048,
    "n_ff": 1408,
    "heads": 16,
    "kv_heads": 16,
    "experts": 64,
    "used": 6,
    "shared": 2816,
    "architecture": "deepseek",
}
QWEN3_MOE_4X4B: Shape = {
    "n_embd": 2560,
    "n_ff": 9728,
    "heads": 32,
    "kv_heads": 8,
    "experts": 4,
    "architecture": "qwen3moe",
}
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
    shared: int = 0,
    architecture: str = "llama",
    tied: bool = False,
    kind: GGMLQuantizationType = Q4_0,
    expert_kinds: Sequence[GGMLQuantizationType] = (),
) -> Path:
    """A model of such a shape, which llama.cpp takes with no_alloc.

    `n_ff` is the width of an expert of a mixture, `shared` that of its shared expert. The experts
    of layer n have the n-th of `expert_kinds`, which are repeated; without any they have `kind`.
    """
    vocab = 49152
    shapes: Shapes = {
        "token_embd.weight": ((vocab, n_embd), kind),
        "output_norm.weight": ((n_embd,), F32),
    }
    if not tied:
        shapes["output.weight"] = ((vocab, n_embd), kind)
    for n in range(layers):
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            shapes[f"blk.{n}.attn_{name}.weight"] = ((rows * head_size, n_embd), kind)
            if architecture.startswith("qwen2"):
                shapes[f"blk.{n}.attn_{name}.bias"] = ((rows * head_size,), F32)
            if architecture.startswith("qwen3") and name != "v":
                shapes[f"blk.{n}.attn_{name}_norm.weight"] = ((head_size,), F32)
        shapes |= {
            f"blk.{n}.attn_output.weight": ((n_embd, heads * head_size), kind),
            f"blk.{n}.attn_norm.weight": ((n_embd,), F32),
            f"blk.{n}.ffn_norm.weight": ((n_embd,), F32),
        }
        own = expert_kinds[n % len(expert_kinds)] if expert_kinds else kind
        shapes |= _feed_forward(n, n_embd, n_ff, own, experts)
        if experts:
            shapes[f"blk.{n}.ffn_gate_inp.weight"] = ((experts, n_embd), F32)
        if shared:
            shapes |= _feed_forward(n, n_embd, shared, kind, 0, "_shexp")
        if architecture == "qwen2moe":
            shapes[f"blk.{n}.ffn_gate_inp_shexp.weight"] = ((n_embd,), F32)
    keys: Metadata = {
        "block_count": u32(layers),
        "context_length": u32(32768),
        "embedding_length": u32(n_embd),
        "feed_forward_length": u32(n_ff),
        "attention.head_count": u32(heads),
        "attention.head_count_kv": u32(kv_heads),
        "attention.key_length": u32(head_size),
        "attention.value_length": u32(head_size),
        "attention.layer_norm_rms_epsilon": f32(1e-5),
        "rope.dimension_count": u32(head_size),
    }
    if experts:
        keys |= {
            "expert_count": u32(experts),
            "expert_used_count": u32(used),
            "expert_feed_forward_length": u32(n_ff),
            "expert_shared_feed_forward_length": u32(shared),
            "expert_shared_count": u32(shared // n_ff),
        }
    named: Metadata = {"general.architecture": string(architecture)}
    named |= {f"{architecture}.{key}": value for key, value in keys.items()}
    return write_sparse(path, named | _tokenizer(), shapes)


def _feed_forward(
    layer: int, n_embd: int, n_ff: int, kind: GGMLQuantizationType, experts: int, suffix: str = ""
) -> Shapes:
    stack, tail = ((experts,), "_exps") if experts else ((), suffix)
    return {
        f"blk.{layer}.ffn_gate{tail}.weight": ((*stack, n_ff, n_embd), kind),
        f"blk.{layer}.ffn_up{tail}.weight": ((*stack, n_ff, n_embd), kind),
        f"blk.{layer}.ffn_down{tail}.weight": ((*stack, n_embd, n_ff), kind),
    }


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
