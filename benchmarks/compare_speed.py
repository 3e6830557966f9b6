"""What scoring a text costs beside llama-perplexity, and what listening to the routers adds.

Run: python benchmarks/compare_speed.py MODEL.gguf TEXT [--llama-perplexity PROGRAM] [--chunks N]
     [--threads N] [--rounds N]

Each round scores the same chunks by this project as the baseline and against it, with the routers
heard and unheard, and by llama-perplexity twice: for its own base file and against that. Printed
are tokens per second over the whole of each scoring, and the medians of the rounds' ratios. The
figures that both give of the text stand below, for they must be the same.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.compare.measure.measure import Loaded, measure_text
from franken_gguf.runner.compare.measure.raw_measurements import MeasuredScores
from franken_gguf.runner.compare.measure.scoring import CHUNK, N_OUTPUTS
from franken_gguf.runner.compare.measure.tasks import prepare
from franken_gguf.runner.compare.measure.workspace import Workspace
from franken_gguf.runner.compare.results.document import Settings
from franken_gguf.runner.compare.results.metrics import mean, perplexity, wilson
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.prompt.template import Template

_PASS = re.compile(r"([\d.]+) seconds per pass")


class Ours:
    """One model, loaded twice: with its routers heard, and unheard."""

    def __init__(self, model: Path, text: Path, chunks: int, threads: int, folder: Path) -> None:
        header = read_header(model)
        settings = Settings(0, 0, 0, 1, threads, text.name, chunks, CHUNK)
        self._tasks = prepare(header, [], text.read_text(encoding="utf-8"), settings)
        options = LoadOptions(n_ctx=CHUNK, n_threads=threads, n_outputs=N_OUTPUTS)
        self._models = {
            heard: Loaded(
                Engine(header, options, probe=probe),
                Template(None, {}),
                settings,
                Workspace(folder),
                probe,
                is_baseline=True,
            )
            for heard, probe in ((True, RouterProbe()), (False, None))
        }

    def score(self, *, heard: bool, is_baseline: bool) -> tuple[float, MeasuredScores]:
        """Tokens per second, reductions and files included, and what was found."""
        model = self._models[heard]
        model.is_baseline = is_baseline
        started = time.perf_counter()
        found = measure_text(model, self._tasks)
        return CHUNK * len(self._tasks.chunks) / (time.perf_counter() - started), found


def theirs(program: str, *words: object) -> tuple[float, str]:
    """Tokens per second by llama-perplexity's own word on its first chunk, and its figures."""
    command = [program, "-b", str(CHUNK), "-fa", "off", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = done.stdout + done.stderr
    found = _PASS.search(said)
    assert found, said[-2000:]
    return CHUNK / float(found[1]), said


def main() -> None:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--llama-perplexity", help="its program, to measure beside it")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """All rounds."""
    ours = Ours(
        arguments.model, arguments.text, arguments.chunks, arguments.threads, folder / "ours"
    )
    base = folder / "base.kld"
    kinds: dict[str, Callable[[], float]] = {
        "ours, baseline": lambda: ours.score(heard=True, is_baseline=True)[0],
        "ours": lambda: ours.score(heard=True, is_baseline=False)[0],
        "ours, routers unheard": lambda: ours.score(heard=False, is_baseline=False)[0],
    }
    if program := arguments.llama_perplexity:
        words = ("-m", arguments.model, "-t", arguments.threads, "--chunks", arguments.chunks)
        file = ("-f", arguments.text, "--kl-divergence-base", base)
        against = ("--kl-divergence-base", base, "--kl-divergence")
        kinds["llama-perplexity, base"] = lambda: theirs(program, *words, *file)[0]
        kinds["llama-perplexity"] = lambda: theirs(program, *words, *against)[0]
    speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, run in kinds.items():
            speeds[kind].append(run())
    for kind, found in speeds.items():
        print(f"{kind:24} {median(found):7.1f} tokens/s  ({min(found):.1f} to {max(found):.1f})")
    ratios = [("ours", "ours, routers unheard")]
    if program:
        ratios += [
            ("ours, baseline", "llama-perplexity, base"),
            ("ours", "llama-perplexity"),
            ("ours, routers unheard", "llama-perplexity"),
        ]
    for one, other in ratios:
        ratio = median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))
        print(f"{one} / {other}: {ratio:.3f}")
    scores = ours.score(heard=True, is_baseline=False)[1].scores()
    print(f"perplexity {perplexity(scores.nll)}, KLD {mean(scores.kld)}")
    print(f"same top {wilson(int(scores.same_top.sum()), len(scores.same_top))}")


if __name__ == "__main__":
    main()
