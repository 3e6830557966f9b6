"""A mixture of one layer and no vocabulary, for trying out llama.cpp on this CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.formats import FORMATS
from franken_gguf.quantize.gguf_encode import encode_header, padded
from franken_gguf.quantize.gguf_types import Metadata, f32, string, u32

WIDTH, TOKENS, EXPERTS = 256, 64, 2
"""256 is the shortest row of a K-quant, and enough for every layout that ggml repacks into."""
_METADATA: Metadata = {
    "general.architecture": string("llama"),
    "tokenizer.ggml.model": string("no_vocab"),
    "llama.vocab_size": u32(TOKENS),
    "llama.block_count": u32(1),
    "llama.context_length": u32(WIDTH),
    "llama.embedding_length": u32(WIDTH),
    "llama.feed_forward_length": u32(WIDTH),
    "llama.attention.head_count": u32(4),
    "llama.attention.head_count_kv": u32(4),
    "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.rope.dimension_count": u32(WIDTH // 4),
    "llama.expert_count": u32(EXPERTS),
    "llama.expert_used_count": u32(EXPERTS),
}
# The attention is a product of two matrices, which AMX takes too, the experts are one of three.
_TENSORS: dict[str, tuple[tuple[int, ...], str]] = {
    "token_embd.weight": ((TOKENS, WIDTH), "Q8_0"),
    "output_norm.weight": ((WIDTH,), "F32"),
    "output.weight": ((TOKENS, WIDTH), "Q8_0"),
    "blk.0.attn_norm.weight": ((WIDTH,), "F32"),
    "blk.0.attn_q.weight": ((WIDTH, WIDTH), "Q4_0"),
    "blk.0.attn_k.weight": ((WIDTH, WIDTH), "Q8_0"),
    "blk.0.attn_v.weight": ((WIDTH, WIDTH), "Q4_K"),
    "blk.0.attn_output.weight": ((WIDTH, WIDTH), "Q4_0"),
    "blk.0.ffn_norm.weight": ((WIDTH,), "F32"),
    "blk.0.ffn_gate_inp.weight": ((EXPERTS, WIDTH), "F32"),
    "blk.0.ffn_gate_exps.weight": ((EXPERTS, WIDTH, WIDTH), "Q4_0"),
    "blk.0.ffn_up_exps.weight": ((EXPERTS, WIDTH, WIDTH), "Q8_0"),
    "blk.0.ffn_down_exps.weight": ((EXPERTS, WIDTH, WIDTH), "Q4_K"),
}


def write_tiny_model(path: Path) -> None:
    """Write the GGUF file, 0.5 MB, the same at every call. Raises OSError."""
    random = np.random.default_rng(0)
    table, blocks, offset = [], [], 0
    for name, (shape, kind) in _TENSORS.items():
        weights = random.standard_normal(shape, np.float32) / np.float32(np.sqrt(WIDTH))
        data = FORMATS[kind].quantize(weights.reshape(-1, WIDTH), None).tobytes()
        table.append((name, shape, GGMLQuantizationType[kind], offset))
        blocks.append(data.ljust(padded(len(data)), b"\0"))
        offset += len(blocks[-1])
    path.write_bytes(encode_header(_METADATA, table) + b"".join(blocks))
