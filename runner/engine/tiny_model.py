"""A mixture of experts with one layer and no vocabulary, for testing llama.cpp on this CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.gguf_file.encode import encode_header, padded
from franken_gguf.quantize.gguf_file.values import Metadata, f32, string, u32

# 256 is the shortest row of a K-quant, and long enough for every layout that ggml repacks into.
_WIDTH, _TOKENS, _EXPERTS = 256, 64, 2
_METADATA: Metadata = {
    "general.architecture": string("llama"),
    "tokenizer.ggml.model": string("no_vocab"),
    "llama.vocab_size": u32(_TOKENS),
    "llama.block_count": u32(1),
    "llama.context_length": u32(_WIDTH),
    "llama.embedding_length": u32(_WIDTH),
    "llama.feed_forward_length": u32(_WIDTH),
    "llama.attention.head_count": u32(4),
    "llama.attention.head_count_kv": u32(4),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.rope.dimension_count": u32(_WIDTH // 4),
    "llama.expert_count": u32(_EXPERTS),
    "llama.expert_used_count": u32(_EXPERTS),
}
# Attention uses MUL_MAT, which AMX implements too; the experts use MUL_MAT_ID.
_TENSORS: dict[str, tuple[tuple[int, ...], str]] = {
    "token_embd.weight": ((_TOKENS, _WIDTH), "Q8_0"),
    "output_norm.weight": ((_WIDTH,), "F32"),
    "output.weight": ((_TOKENS, _WIDTH), "Q8_0"),
    "blk.0.attn_norm.weight": ((_WIDTH,), "F32"),
    "blk.0.attn_q.weight": ((_WIDTH, _WIDTH), "Q4_0"),
    "blk.0.attn_k.weight": ((_WIDTH, _WIDTH), "Q8_0"),
    "blk.0.attn_v.weight": ((_WIDTH, _WIDTH), "Q4_K"),
    "blk.0.attn_output.weight": ((_WIDTH, _WIDTH), "Q4_0"),
    "blk.0.ffn_norm.weight": ((_WIDTH,), "F32"),
    "blk.0.ffn_gate_inp.weight": ((_EXPERTS, _WIDTH), "F32"),
    "blk.0.ffn_gate_exps.weight": ((_EXPERTS, _WIDTH, _WIDTH), "Q4_0"),
    "blk.0.ffn_up_exps.weight": ((_EXPERTS, _WIDTH, _WIDTH), "Q8_0"),
    "blk.0.ffn_down_exps.weight": ((_EXPERTS, _WIDTH, _WIDTH), "Q4_K"),
}


def write_tiny_model(path: Path) -> None:
    """Write the GGUF file, 0.5 MB, the same at every call. Raises OSError."""
    random = np.random.default_rng(0)
    table, blocks, offset = [], [], 0
    for name, (shape, kind) in _TENSORS.items():
        weights = random.standard_normal(shape, np.float32) / np.float32(np.sqrt(_WIDTH))
        data = FORMATS[kind].quantize(weights.reshape(-1, _WIDTH), None).tobytes()
        table.append((name, shape, GGMLQuantizationType[kind], offset))
        blocks.append(data.ljust(padded(len(data)), b"\0"))
        offset += len(blocks[-1])
    path.write_bytes(encode_header(_METADATA, table) + b"".join(blocks))
