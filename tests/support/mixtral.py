"""A checkpoint in Mixtral-8x7B's shapes with as few layers as wanted, made without holding it."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np

from support.bpe_tokenizers import write_bpe_tokenizer, write_json
from support.checkpoints import config_json

HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, EXPERTS, VOCAB = 4096, 14336, 32, 8, 8, 32000
_CHUNK = 1 << 24


def make_mixtral(folder: Path, layers: int, *, sparse: bool = False) -> Path:
    """A BF16 folder of 2.9 GB a layer, its weights the same 8 million normal ones over and over.

    `sparse` leaves a hole of zeros where they would be, which takes no room on most disks.
    """
    folder.mkdir(parents=True)
    write_bpe_tokenizer(folder)
    config = config_json(
        layout="per-expert",
        experts=EXPERTS,
        tied=False,
        dtype="BF16",
        hidden=HIDDEN,
        heads=HEADS,
        kv_heads=KV_HEADS,
        layers=layers,
        feed_forward=FEED_FORWARD,
        vocab=VOCAB,
        transformers=5,
    )
    write_json(folder / "config.json", config)
    header, offset = {}, 0
    for name, shape in _shapes(layers).items():
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if not sparse:
            rng = np.random.default_rng(0)
            weights = (rng.standard_normal(_CHUNK // 2, np.float32) * 0.02).view(np.uint32) >> 16
            chunk = weights.astype("<u2").tobytes()
            for _ in range(offset // _CHUNK):
                file.write(chunk)
        file.truncate(8 + len(text) + offset)
    return folder


def _shapes(layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for n in range(layers):
        layer = f"model.layers.{n}"
        kv = HIDDEN // HEADS * KV_HEADS
        for name, rows in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (rows, HIDDEN)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{name}.weight"] = (HIDDEN,)
        moe = f"{layer}.block_sparse_moe"
        shapes[f"{moe}.gate.weight"] = (EXPERTS, HIDDEN)
        for e in range(EXPERTS):
            shapes[f"{moe}.experts.{e}.w1.weight"] = (FEED_FORWARD, HIDDEN)
            shapes[f"{moe}.experts.{e}.w2.weight"] = (HIDDEN, FEED_FORWARD)
            shapes[f"{moe}.experts.{e}.w3.weight"] = (FEED_FORWARD, HIDDEN)
    return shapes | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCAB, HIDDEN)}
