"""Our block maths against ggml's C, in millions of weights a second, on one thread and on all.

    python benchmarks/blocks.py [TYPE]... [--imatrix] [--dequantize] [--rounds N]

ggml is the libggml-base of the installed llama-cpp-python, called through ctypes on the same rows:
normally distributed, 2048 columns. Both sides split the rows over threads of this process and the
best round counts. With --dequantize the other side is gguf-py, for ggml-base exports no such call.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray

from franken_gguf.quantize.formats import FORMATS, BlockFormat

# The tests' way into libggml-base, so that what is timed is what the bytes are compared with.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from ggml import ggml_quantize

ROWS, COLS = 512, 2048

Work = Callable[[NDArray[np.generic]], object]


def main() -> None:
    """Print one line for each type."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", metavar="TYPE", help="default: every block type")
    parser.add_argument("--imatrix", action="store_true", help="the weighted searches")
    parser.add_argument("--dequantize", action="store_true", help="against gguf-py")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = args.types or [codec.name for codec in FORMATS.values() if codec.block_len > 1]
    rng = np.random.default_rng(1)
    rows = (rng.standard_normal((ROWS, COLS)) * 0.02).astype(np.float32)
    importance = rng.random(COLS).astype(np.float32) if args.imatrix else None

    other = "gguf-py" if args.dequantize else "ggml"
    print(
        f"Mweights/s   1 thread: ours {other:>9} ratio   {threads} threads: ours {other:>9} ratio"
    )
    for name in names:
        codec = FORMATS[name.upper()]
        line = f"{codec.name:<8}"
        for count, width in ((1, 18), (threads or 1, 20)):
            if args.dequantize:
                ours, theirs = _decoders(codec)
                data: NDArray[np.generic] = codec.quantize(rows, None)
            else:
                ours, theirs = _encoders(codec, importance)
                data = rows
            pair = [_speed(work, data, count, args.rounds) for work in (ours, theirs)]
            line += f"{pair[0]:>{width}.1f} {pair[1]:>9.1f} {pair[0] / pair[1]:>5.2f}"
        print(line, flush=True)


def _encoders(codec: BlockFormat, importance: NDArray[np.float32] | None) -> tuple[Work, Work]:
    return (
        lambda rows: codec.quantize(rows, importance),
        lambda rows: ggml_quantize(codec, rows, importance),
    )


def _decoders(codec: BlockFormat) -> tuple[Work, Work]:
    kind = GGMLQuantizationType[codec.name]
    return codec.dequantize, lambda blocks: quants.dequantize(blocks, kind)


def _speed(work: Work, data: NDArray[np.generic], threads: int, rounds: int) -> float:
    """Best of `rounds`, in millions of weights a second."""
    parts = np.array_split(data, threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds + 1):  # the first warms up, and never is the best
            start = time.perf_counter()
            list(pool.map(work, parts))
            best = min(best, time.perf_counter() - start)
    return ROWS * COLS / best / 1e6


if __name__ == "__main__":
    main()
