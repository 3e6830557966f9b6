"""Compare the speed of `franken-gguf imatrix` with llama-imatrix's, on the same text and threads.

    python benchmarks/imatrix.py LLAMA_IMATRIX MODEL.gguf TEXT [CHUNKS [THREADS]]

Both run in turn, llama-imatrix with flash attention (its default) and without. The time is that of
a run less that of a run of half as many chunks, so that loading and tokenizing do not count.
tools/make_imatrix_expectations.py says how LLAMA_IMATRIX is built.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

CHUNK_SIZE = 512
ROUNDS = 1


def main(program: str, model: str, text: str, chunks: int = 4, threads: int = 2) -> None:
    """Print both speeds of each round, and their ratio."""
    shared = ["-c", str(CHUNK_SIZE), "-t", str(threads)]
    ours = [sys.executable, "-m", "franken_gguf.runner", "imatrix", model, "--text", text]
    ours += [*shared, "--hold-out", "0", "--overwrite"]
    for flash in ("auto", "off"):
        theirs = [program, "-m", model, "-f", text, *shared, "--no-ppl", "-fa", flash]
        for _ in range(ROUNDS):
            speeds = speed(ours, chunks), speed(theirs, chunks)
            print(
                f"{speeds[0]:.1f} tokens/s, llama-imatrix -fa {flash} {speeds[1]:.1f}, "
                f"ratio {speeds[0] / speeds[1]:.2f}",
                flush=True,
            )


def speed(command: Sequence[str], chunks: int) -> float:
    """Tokens per second beyond the start."""
    half = chunks // 2
    return (chunks - half) * CHUNK_SIZE / (seconds(command, chunks) - seconds(command, half))


def seconds(command: Sequence[str], chunks: int) -> float:
    """The time of one run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "made.gguf")
        started = time.monotonic()
        subprocess.run(
            [*command, "--chunks", str(chunks), "-o", str(out)], check=True, capture_output=True
        )
        return time.monotonic() - started


if __name__ == "__main__":
    program, model, text, *numbers = sys.argv[1:]
    main(program, model, text, *map(int, numbers))
