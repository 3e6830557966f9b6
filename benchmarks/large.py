"""A conversion with Mixtral-8x7B's shapes: peak memory, and Q8_0 compared with a copy by dd.

    python benchmarks/large.py [--layers N]... [--max-memory SIZE]... [--threads N] [--folder DIR]

The checkpoints are made for it in DIR (2.9 GB a layer, BF16) and deleted again. Memory is the
resident memory of the command and its workers, added up: pages that they share count for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from processes import fastest, run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.mixtral import make_mixtral


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--max-memory", action="append", help="default: 512MiB and 128MiB")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for layers in options.layers or [1, 2]:
        folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.folder))
        try:
            measure(make_mixtral(folder / "mixtral", layers), layers, options)
        finally:
            shutil.rmtree(folder)


def measure(checkpoint: Path, layers: int, options: argparse.Namespace) -> None:
    """One checkpoint: a line for each bound on memory, and one beside dd."""
    out, copy = checkpoint.with_name("out"), checkpoint.with_name("copy")
    out.mkdir()
    command = [
        str(Path(sys.executable).with_name("franken-gguf")),
        *("convert", str(checkpoint), "-o", str(out), "--overwrite"),
        *("--threads", str(options.threads)),
    ]
    for limit in options.max_memory or ["512MiB", "128MiB"]:
        done = run([*command, "-q", "Q8_0", "-q", "Q4_0", "--max-memory", limit])
        print(
            f"{layers} layers, Q8_0 and Q4_0, --max-memory {limit}, {options.threads} threads: "
            f"{done.seconds:.1f} s, peak {done.peak_mib:.0f} MiB",
            flush=True,
        )
    weights = checkpoint / "model.safetensors"
    megabytes = weights.stat().st_size / 1e6
    # The first run brings the file into the page cache.
    ours = fastest([*command, "-q", "Q8_0"], 2)
    script = 'dd if="$0" of="$1" bs=1M status=none && sync "$1" && rm "$1"'
    theirs = fastest(["sh", "-c", script, str(weights), str(copy)], 2)
    print(
        f"{layers} layers, Q8_0: {megabytes / ours.seconds:.0f} MB/s read; dd and sync: "
        f"{megabytes / theirs.seconds:.0f} MB/s; ratio {theirs.seconds / ours.seconds:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
