"""Time and memory of converting a recipe, compared with converting the merged checkpoint.

    python benchmarks/merge.py RECIPE.yml... [-q TYPE] [--repeat N] [--folder DIR]

The checkpoint is written to DIR for it and deleted again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from processes import Run, run

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("-q", dest="type", default="Q4_K_M")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    for recipe in options.recipes:
        folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.folder))
        try:
            measure(recipe, folder, options)
        finally:
            shutil.rmtree(folder)


def measure(recipe: Path, folder: Path, options: argparse.Namespace) -> None:
    """One recipe: three lines, and the two ratios."""
    ready = folder / "ready"
    merged = run([COMMAND, "merge", str(recipe), str(ready)])
    print(f"{recipe.name}: merge {shown(merged)}", flush=True)
    convert = [COMMAND, "convert", "-q", options.type, "-o", str(folder / "x.gguf"), "--overwrite"]
    # Alternately, so that what others do meanwhile falls on both.
    runs = [[run([*convert, str(each)]) for each in (ready, recipe)] for _ in range(options.repeat)]
    from_ready, from_recipe = (
        min(each, key=lambda one: one.cpu_seconds) for each in zip(*runs, strict=True)
    )
    print(f"  {options.type} of the checkpoint: {shown(from_ready)}")
    print(f"  {options.type} of the recipe:     {shown(from_recipe)}")
    wall = from_recipe.seconds / from_ready.seconds
    cpu = from_recipe.cpu_seconds / from_ready.cpu_seconds
    print(f"  ratio {wall:.2f}, of CPU time {cpu:.2f}", flush=True)


def shown(done: Run) -> str:
    """One run in words."""
    return f"{done.seconds:.1f} s, {done.cpu_seconds:.1f} s of CPU, peak {done.peak_mib:.0f} MiB"


if __name__ == "__main__":
    main()
