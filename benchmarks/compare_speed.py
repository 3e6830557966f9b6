"""Speed of scoring a text compared with llama-perplexity, with and without captured routing.

Run: python benchmarks/compare_speed.py MODEL.gguf TEXT [--llama-perplexity PROGRAM] [--chunks N]
     [--threads N] [--rounds N]

Each round scores the same chunks with this project, as the baseline and against it, with and
without capturing the routing, and with llama-perplexity, writing its base file and against it.
Prints tokens per second and the medians of the rounds' ratios, then the perplexity and KL
divergence of the text, which must equal llama-perplexity's.
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
from franken_gguf.runner.compare.measure.loaded_model import LoadedModel
from franken_gguf.runner.compare.measure.measure_scores import measure_text
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
    """One model, loaded twice: with and without a router probe."""

    def __init__(self, model: Path, text: Path, chunks: int, threads: int, folder: Path) -> None:
        header = read_header(model)
        settings = Settings(0, 0, 0, 1, threads, text.name, chunks, CHUNK)
        self._tasks = prepare(header, [], text.read_text(encoding="utf-8"), settings)
        options = LoadOptions(n_ctx=CHUNK, n_threads=threads, n_outputs=N_OUTPUTS)
        self._models = {
            routing: LoadedModel(
                Engine(header, options, probe=probe),
                Template(None, {}),
                settings,
                Workspace(folder),
                probe,
                is_baseline=True,
            )
            for routing, probe in ((True, RouterProbe()), (False, None))
        }

    def score(self, *, routing: bool, is_baseline: bool) -> tuple[float, MeasuredScores]:
        """Tokens per second, including reductions and files, and the scores."""
        model = self._models[routing]
        model.is_baseline = is_baseline
        started = time.perf_counter()
        scores = measure_text(model, self._tasks)
        return CHUNK * len(self._tasks.chunks) / (time.perf_counter() - started), scores


def theirs(program: str, *words: object) -> tuple[float, str]:
    """Tokens per second as llama-perplexity reports for its first chunk, and its output."""
    command = [program, "-b", str(CHUNK), "-fa", "off", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    output = done.stdout + done.stderr
    seconds = _PASS.search(output)
    assert seconds, output[-2000:]
    return CHUNK / float(seconds[1]), output


def main() -> None:
    """Read the arguments and measure in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--llama-perplexity", help="path of the program, to measure it too")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Run all rounds and print speeds, ratios and scores."""
    ours = Ours(
        arguments.model, arguments.text, arguments.chunks, arguments.threads, folder / "ours"
    )
    base = folder / "base.kld"
    kinds: dict[str, Callable[[], float]] = {
        "ours, baseline": lambda: ours.score(routing=True, is_baseline=True)[0],
        "ours": lambda: ours.score(routing=True, is_baseline=False)[0],
        "ours, no routing": lambda: ours.score(routing=False, is_baseline=False)[0],
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
    ratios = [("ours", "ours, no routing")]
    if program:
        ratios += [
            ("ours, baseline", "llama-perplexity, base"),
            ("ours", "llama-perplexity"),
            ("ours, no routing", "llama-perplexity"),
        ]
    for one, other in ratios:
        ratio = median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))
        print(f"{one} / {other}: {ratio:.3f}")
    scores = ours.score(routing=True, is_baseline=False)[1].scores()
    print(f"perplexity {perplexity(scores.nll)}, KLD {mean(scores.kld)}")
    print(f"same top {wilson(int(scores.same_top.sum()), len(scores.same_top))}")


if __name__ == "__main__":
    main()
