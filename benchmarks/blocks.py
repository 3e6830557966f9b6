"""Speed of every block format beside ggml's C on the same data, with one thread and with all."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.formats import FORMATS, BlockFormat

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from ggml import ggml_quantize

F32 = NDArray[np.float32]
Quantizer = Callable[[BlockFormat, F32, "F32 | None"], NDArray[np.uint8]]


def ours(codec: BlockFormat, rows: F32, importance: F32 | None) -> NDArray[np.uint8]:
    """This project's quantizer, with ggml_quantize's arguments."""
    return codec.quantize(rows, importance)


def speed(work: Callable[[], object], weights: int, seconds: float) -> float:
    """Mweights/s of the fastest run within `seconds`."""
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return weights / best / 1e6


def measure(
    quantizer: Quantizer,
    codec: BlockFormat,
    rows: F32,
    importance: F32 | None,
    threads: int,
    seconds: float,
) -> float:
    """Mweights/s with the rows split evenly over `threads`."""
    parts = np.array_split(rows, threads)
    if threads == 1:
        return speed(lambda: quantizer(codec, rows, importance), rows.size, seconds)
    with ThreadPoolExecutor(threads) as pool:
        return speed(
            lambda: list(pool.map(lambda part: quantizer(codec, part, importance), parts)),
            rows.size,
            seconds,
        )


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", help="such as Q4_K; all by default")
    parser.add_argument("--weighted", action="store_true", help="under an importance matrix")
    parser.add_argument("--rows", type=int, default=1024, help="of 2048 weights each")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each figure")
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((options.rows, 2048)) * 0.02).astype(np.float32)
    importance = rng.random(2048).astype(np.float32) if options.weighted else None
    threads = os.cpu_count() or 1
    names = options.formats or [f.name for f in FORMATS.values() if f.block_len > 1]

    print(f"Mweights/s, {rows.size / 1e6:.1f} M weights, the best of {options.seconds} s.\n")
    print(f"| format | ours, 1 thread | ggml | ratio | ours, {threads} threads | ggml | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in names:
        codec = FORMATS[name]
        cells = []
        for count in (1, threads):
            pair = [
                measure(quantizer, codec, rows, importance, count, options.seconds)
                for quantizer in (ours, ggml_quantize)
            ]
            cells += [f"{pair[0]:.1f}", f"{pair[1]:.1f}", f"{pair[0] / pair[1]:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
