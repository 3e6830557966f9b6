"""How fast a CPU decodes each type, relative to Q4_K: what quantize/blocks/cpu_decode.py has.

    python benchmarks/decode_types.py [--types Q4_K IQ2_XS ...] [--rounds 4] [--tokens 12]

A mixture of random weights, all its matrices in one type, takes turns with the same mixture in
Q4_K, on one thread of one process. It is larger than the CPU's caches, so that weights come from
RAM as in a real model, and not repacked, as beside a GPU that pins RAM: K-quants only gain by
that. CPU seconds count, of the fastest round: other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from large_model import random_model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from support.shapes import MIXTRAL_4X7B

BASE = "Q4_K"
SHAPE = MIXTRAL_4X7B | {"n_embd": 2048, "n_ff": 8192, "heads": 16, "kv_heads": 4}
SKIPPED = ("F32", "F16", "BF16", "Q1_0", "TQ1_0", "TQ2_0", "MXFP4")
TYPES = [name for name in FORMATS if name not in SKIPPED]


def main() -> None:
    """Print a line for each type."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", nargs="+", choices=FORMATS, default=TYPES)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=12)
    options = parser.parse_args()
    print("| type | bits/weight | CPU s/token | speed | speed for a byte |")
    print("| --- | ---: | ---: | ---: | ---: |")
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        base = opened.enter_context(loaded(folder, BASE))
        for name in options.types:
            with loaded(folder, name) as other:
                rounds = [
                    (seconds(base, options.tokens, n), seconds(other, options.tokens, n))
                    for n in range(options.rounds)
                ]
            theirs, own = (min(column) for column in zip(*rounds, strict=True))
            print(
                f"| {name} | {bits(name):.2f} | {own:.3f} | {theirs / own:.2f} | "
                f"{theirs / own * bits(name) / bits(BASE):.2f} |",
                flush=True,
            )


def loaded(folder: Path, name: str) -> Engine:
    """The mixture in a type, its file deleted again."""
    path = random_model(folder / f"{name}.gguf", name, layers=1, shape=SHAPE)
    try:
        options = LoadOptions(n_threads=1, n_ctx=64, mmap=False, repack=False)
        return Engine(read_header(path), options)
    finally:
        path.unlink()


def seconds(engine: Engine, tokens: int, seed: int) -> float:
    """CPU seconds for a token, decoded one at a time after a short prompt."""
    some = np.random.default_rng(seed).integers(1000, 30000, tokens + 2).tolist()
    engine.forget_from(0)
    engine.evaluate(some[:2])
    started = time.process_time()
    for token in some[2:]:
        engine.decode((token,))
    return (time.process_time() - started) / tokens


def bits(name: str) -> float:
    """Bits for a weight."""
    return 8 * FORMATS[name].block_bytes / FORMATS[name].block_len


if __name__ == "__main__":
    main()
