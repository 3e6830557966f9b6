"""Time of `compare` on prompts, and that of the same command of another checkout of this project.

Run: python benchmarks/compare_answers.py MODEL.gguf... --reference PROGRAM [--samples N]
     [--predict N] [--threads N] [--prompt NAME]...

PROGRAM is the franken-gguf of the other checkout, such as ../old/.venv/bin/franken-gguf. Both
compare the same models on the same prompts with empty caches, one after the other. Prints seconds
of wall clock and of processor time, which a busy machine disturbs less, and their ratios.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from franken_gguf.runner.compare.measure.questions import BUILT_IN


def seconds(program: str | Path, words: list[str]) -> tuple[float, float]:
    """Wall clock and processor time of a comparison with an empty cache."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        command = [str(program), "compare", *words, "--cache", cache]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Read the arguments, run both, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--reference", required=True, help="the other checkout's franken-gguf")
    parser.add_argument("--samples", default="32")
    parser.add_argument("--predict", default="48")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--prompt", action="append")
    arguments = parser.parse_args()
    words = [*arguments.models, "--samples", arguments.samples, "-n", arguments.predict]
    words += ["-t", arguments.threads]
    words += [word for name in arguments.prompt or BUILT_IN for word in ("--prompt", name)]
    ours = seconds(Path(sys.executable).with_name("franken-gguf"), words)
    theirs = seconds(arguments.reference, words)
    for what, one, other in zip(("wall clock", "processor"), ours, theirs, strict=True):
        print(f"{what}: {one:.1f} s, reference {other:.1f} s, ratio {one / other:.3f}")


if __name__ == "__main__":
    main()
