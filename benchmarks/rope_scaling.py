"""Perplexity beyond a model's training, by position and by way of scaling RoPE.

    python benchmarks/rope_scaling.py MODEL.gguf TEXT [--ratio 1.5] [--threads 1]

A text is read into one context that is longer than the model was trained for. Each row is one way,
each column the tokens between two positions; the last 256 of every 512 tokens are scored.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from math import exp, log, tau
from pathlib import Path
from statistics import fmean

import numpy as np

from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.planning.memory_use import N_BATCH
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.rope import Rope

SCORED = N_BATCH // 2


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--ratio", type=float, default=1.5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    header, text = read_header(given.model), given.text.read_text()
    trained = model_shape(header).n_ctx_train
    n_ctx = int(trained * given.ratio) // N_BATCH * N_BATCH
    bounds = list(pairwise([0, trained // 2, trained, (trained + n_ctx) // 2, n_ctx]))
    columns = [f"{low}-{high}" for low, high in bounds]
    print(f"| RoPE | {' | '.join(columns)} | CPU s |\n| --- |{' ---: |' * (len(columns) + 1)}")
    for name, rope in ways(header, trained, n_ctx).items():
        began = time.process_time()
        options = LoadOptions(
            **vars(rope), n_ctx=n_ctx, n_threads=given.threads, n_outputs=SCORED, n_gpu_layers=0
        )
        losses = read(header, text, options)
        cells = [
            f"{exp(fmean(loss for at, loss in losses if low <= at < high)):.2f}"
            for low, high in bounds
        ]
        print(f"| {name} | {' | '.join(cells)} | {time.process_time() - began:.0f} |", flush=True)


def ways(header: Header, trained: int, n_ctx: int) -> dict[str, Rope]:
    """Each way by name: what llama.cpp can do, and KoboldCpp's rule for the base."""
    base = header.metadata.get(f"{header.text('general.architecture')}.rope.freq_base")
    theta = base.data if base else 10_000.0
    return {
        "not scaled": Rope(rope_scaling="none"),
        "linear": Rope(rope_scaling="linear", rope_scale=n_ctx / trained),
        "KoboldCpp's base": Rope(rope_freq_base=theta ** (log(n_ctx / tau) / log(trained / tau))),
        "YaRN (chosen)": Rope(),
    }


def read(header: Header, text: str, options: LoadOptions) -> list[tuple[int, float]]:
    """Position and loss in nats of the scored tokens."""
    with Engine(header, options) as engine:
        tokens = engine.vocabulary.prompt(text)[: engine.n_ctx]
        if len(tokens) < engine.n_ctx:
            raise SystemExit(f"the text has only {len(tokens)} tokens")
        losses = []
        for start in range(0, len(tokens) - N_BATCH, N_BATCH):
            rows = engine.logits(tokens[start : start + N_BATCH], N_BATCH - SCORED)
            first = start + N_BATCH - SCORED
            for at, row in enumerate(rows.astype(np.float64), first):
                row -= row.max()
                losses.append((at, float(np.log(np.exp(row).sum()) - row[tokens[at + 1]])))
    return losses


if __name__ == "__main__":
    main()
