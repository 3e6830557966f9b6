"""Small checkpoints on disk, the same bytes from the same seed on every machine."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from support.bpe_tokenizers import write_bpe_tokenizer, write_json

Layout = Literal["per-expert", "fused", "dense"]
Dtype = Literal["BF16", "F16", "F32"]


class Sizes(TypedDict, total=False):
    """Keywords of `make_checkpoint`, `config_json` and `checkpoint_tensors`."""

    experts: int
    hidden: int
    heads: int
    kv_heads: int
    layers: int
    feed_forward: int


class _Shape(Sizes, total=False):
    layout: Layout
    tied: bool
    vocab: int


DEFAULT_VOCAB = 1024


def weights(name: str, shape: tuple[int, ...], seed: int, scale: float) -> NDArray[np.float32]:
    """Bell-shaped weights that depend on nothing but the name, the shape and the seed.

    PCG64's raw bits are promised to stay the same in every numpy; the distributions built on them
    are not. Each weight is the sum of the four 16-bit quarters of one raw word, so every step
    before the final product is exact.
    """
    count = int(np.prod(shape))
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())])
    quarters = bits.random_raw(count).astype("<u8").view("<u2").reshape(count, 4)
    centred = quarters.astype(np.int64).sum(axis=1) - 2 * 0xFFFF
    values: NDArray[np.float32] = centred.astype(np.float32) * np.float32(scale / 0x10000)
    return values.reshape(shape)


def encode(values: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    """float32 weights as the little-endian array a safetensors file holds (BF16 as uint16)."""
    if dtype == "F32":
        return values.astype("<f4")
    if dtype == "F16":
        return values.astype("<f2")
    bits = values.view(np.uint32)
    # Round to nearest, ties to even, on the 16 bits that BF16 drops.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def checkpoint_tensors(
    *,
    layout: Layout,
    experts: int,
    tied: bool,
    hidden: int,
    heads: int,
    kv_heads: int,
    layers: int,
    feed_forward: int,
    vocab: int,
    seed: int,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and float32 values in model order; both MoE layouts carry the same numbers."""
    head_dim = hidden // heads

    def draw(name: str, *shape: int, scale: float = 0.05) -> NDArray[np.float32]:
        return weights(name, shape, seed, scale)

    def norm(name: str) -> tuple[str, NDArray[np.float32]]:
        return name, 1 + draw(name, hidden, scale=0.1)

    def linear(name: str, *shape: int) -> tuple[str, NDArray[np.float32]]:
        return name, draw(name, *shape)

    yield linear("model.embed_tokens.weight", vocab, hidden)
    for n in range(layers):
        layer = f"model.layers.{n}"
        yield norm(f"{layer}.input_layernorm.weight")
        yield linear(f"{layer}.self_attn.q_proj.weight", heads * head_dim, hidden)
        yield linear(f"{layer}.self_attn.k_proj.weight", kv_heads * head_dim, hidden)
        yield linear(f"{layer}.self_attn.v_proj.weight", kv_heads * head_dim, hidden)
        yield linear(f"{layer}.self_attn.o_proj.weight", hidden, heads * head_dim)
        yield norm(f"{layer}.post_attention_layernorm.weight")
        if layout == "dense":
            yield linear(f"{layer}.mlp.gate_proj.weight", feed_forward, hidden)
            yield linear(f"{layer}.mlp.up_proj.weight", feed_forward, hidden)
            yield linear(f"{layer}.mlp.down_proj.weight", hidden, feed_forward)
            continue
        # The per-expert names seed the numbers of both layouts.
        moe = f"{layer}.block_sparse_moe"
        router = draw(f"{moe}.gate.weight", experts, hidden)
        parts = [
            {
                "w1": draw(f"{moe}.experts.{e}.w1.weight", feed_forward, hidden),
                "w2": draw(f"{moe}.experts.{e}.w2.weight", hidden, feed_forward),
                "w3": draw(f"{moe}.experts.{e}.w3.weight", feed_forward, hidden),
            }
            for e in range(experts)
        ]
        if layout == "per-expert":
            yield f"{moe}.gate.weight", router
            for e, expert in enumerate(parts):
                for part, values in expert.items():
                    yield f"{moe}.experts.{e}.{part}.weight", values
        else:
            yield f"{layer}.mlp.gate.weight", router
            gate_up = np.stack([np.concatenate([p["w1"], p["w3"]]) for p in parts])
            yield f"{layer}.mlp.experts.gate_up_proj", gate_up
            yield f"{layer}.mlp.experts.down_proj", np.stack([p["w2"] for p in parts])
    yield norm("model.norm.weight")
    if not tied:
        yield linear("lm_head.weight", vocab, hidden)


def write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]], dtype: Dtype) -> None:
    """One safetensors file: u64 header length, JSON header, then the tensors' bytes in order."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = []
    offset = 0
    for name, values in tensors.items():
        raw = encode(values, dtype).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        data.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


def config_json(
    *,
    layout: Layout,
    experts: int,
    tied: bool,
    dtype: Dtype,
    hidden: int,
    heads: int,
    kv_heads: int,
    layers: int,
    feed_forward: int,
    vocab: int,
    transformers: Literal[4, 5],
    dense_class: str = "LlamaForCausalLM",
) -> dict[str, Any]:
    """config.json as transformers 4 or 5 writes it for such a model."""
    dtype_name = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    architecture = dense_class if layout == "dense" else "MixtralForCausalLM"
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": architecture.removesuffix("ForCausalLM").lower(),
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": feed_forward,
        "max_position_embeddings": 2048,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": tied,
        "use_cache": True,
        "vocab_size": vocab,
    }
    if layout != "dense":
        config |= {"num_local_experts": experts, "num_experts_per_tok": 2, "sliding_window": None}
    if transformers == 4:
        config |= {
            "torch_dtype": dtype_name,
            "rope_theta": 100000.0,
            "rope_scaling": None,
            "transformers_version": "4.46.0",
        }
    else:
        config |= {
            "dtype": dtype_name,
            "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
            "transformers_version": "5.2.0",
        }
    return config


def make_checkpoint(
    folder: Path,
    *,
    layout: Layout = "per-expert",
    experts: int = 4,
    tied: bool = False,
    dtype: Dtype = "BF16",
    hidden: int = 256,
    heads: int = 4,
    kv_heads: int = 2,
    layers: int = 2,
    feed_forward: int = 512,
    vocab: int = DEFAULT_VOCAB,
    shards: int = 1,
    transformers: Literal[4, 5] = 5,
    dense_class: str = "LlamaForCausalLM",
    seed: int = 0,
) -> Path:
    """Write weights, config.json and a byte-level BPE tokenizer into `folder`; returns the folder.

    `layout` "per-expert" and "fused" carry the same weights, and so do the dtypes before rounding.
    With `shards` > 1 the tensors are dealt over that many files beside an index. `vocab` must hold
    the tokenizer (see bpe_tokenizers.py); what is beyond it is padding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape: _Shape = {
        "layout": layout,
        "experts": experts,
        "tied": tied,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": kv_heads,
        "layers": layers,
        "feed_forward": feed_forward,
        "vocab": vocab,
    }
    tokens = write_bpe_tokenizer(folder)
    if tokens > vocab:
        raise ValueError(f"vocab={vocab} is smaller than the tokenizer's {tokens}")
    config = config_json(dtype=dtype, transformers=transformers, dense_class=dense_class, **shape)
    write_json(folder / "config.json", config)

    tensors = dict(checkpoint_tensors(seed=seed, **shape))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return folder
    names = list(tensors)
    per_file = -(-len(names) // shards)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard * per_file : (shard + 1) * per_file]}
        write_safetensors(folder / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    size = sum(encode(values, dtype).nbytes for values in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)
    return folder
