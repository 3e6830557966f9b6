"""The peak memory of a conversion in Mixtral-8x7B's shapes, by layers and by --max-memory.

    python benchmarks/memory.py [--layers N]... [--max-memory SIZE]... [-q TYPE]... [--folder DIR]

The checkpoints are made for it in DIR (2.9 GB a layer, BF16) and deleted again. What is measured is
the resident memory of the command and its workers, added up: pages that they share count for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from processes import run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from mixtral import make_mixtral


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--max-memory", action="append", help="default: 512MiB and 128MiB")
    parser.add_argument("-q", dest="types", action="append", help="default: Q8_0 and Q4_0")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    types = [word for name in options.types or ["Q8_0", "Q4_0"] for word in ("-q", name)]
    print(f"layers  --max-memory  seconds  peak MiB   ({options.threads} threads)")
    for layers in options.layers or [1, 2]:
        folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.folder))
        try:
            checkpoint = make_mixtral(folder / "mixtral", layers)
            for limit in options.max_memory or ["512MiB", "128MiB"]:
                command = [
                    str(Path(sys.executable).with_name("franken-gguf")),
                    *("convert", str(checkpoint), "-o", str(folder), *types, "--overwrite"),
                    *("--threads", str(options.threads), "--max-memory", limit),
                ]
                done = run(command)
                print(
                    f"{layers:>6}  {limit:>12}  {done.seconds:>7.1f}  {done.peak_mib:>8.0f}",
                    flush=True,
                )
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
