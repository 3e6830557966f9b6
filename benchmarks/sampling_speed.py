"""Time per token of DRY, XTC and a hundred banned phrases, and of captured routing.

    python benchmarks/sampling_speed.py MODEL.gguf [--tokens 128] [--rounds 5] [--threads N]

All kinds take turns with the same prompt; ratios to "plain", the chat's default settings, are
medians over the rounds. "all" samples with DRY, XTC and a hundred banned phrases; "odds" records
what /probs shows; "experts" also captures the routing of a mixture of experts. The time of rewound
tokens is included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.common.hardware import default_threads
from franken_gguf.runner.engine.ban_filter import unbanned
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.prompt.text_stream import text_of
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import Sampling

PROMPT = "Once upon a time, in a harbour town at the end of the world,"
PLAIN = Sampling(seed=1)
ALL = Sampling(seed=1, dry_multiplier=0.8, dry_penalty_last_n=2048, xtc_probability=0.5)
# Common beginnings with ends that never occur: much text is held back, little is rewound.
BEGINNINGS = ("a shiver down", "the old", "in the", "she felt", "he could not", "with a", "it was",
              "barely above", "eyes wide", "once upon")  # fmt: skip
PHRASES = [f"{one} {number} zyx" for one in BEGINNINGS for number in ("", *"abcdefghi")]


def seconds_per_token(
    engine: Engine, sampling: Sampling, tokens: int, phrases: list[str], records: bool
) -> float:
    """From the first token to the last, including everything between model and screen."""
    prompt = engine.vocabulary.prompt(PROMPT)
    engine.evaluate(prompt[-1:])
    answer = engine.generate(prompt, sampling, tokens, can_rewind=bool(phrases), records=records)
    piece = engine.vocabulary.piece
    drawn = unbanned(answer, Banned(phrases), piece) if phrases else iter(answer)
    started = time.perf_counter()
    for _ in text_of(drawn, piece):
        pass
    return (time.perf_counter() - started - answer.prompt_seconds) / max(1, answer.tokens - 1)


def main() -> None:
    """Print the costs and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    options = parser.parse_args()
    header = read_header(options.model)
    loading = LoadOptions(n_threads=options.threads)
    plain, capturing = Engine(header, loading), Engine(header, loading, probe=RouterProbe())
    kinds: dict[str, Callable[[], float]] = {
        "plain": lambda: seconds_per_token(plain, PLAIN, options.tokens, [], False),
        "all": lambda: seconds_per_token(plain, ALL, options.tokens, PHRASES, False),
        "odds": lambda: seconds_per_token(plain, PLAIN, options.tokens, [], True),
        "experts": lambda: seconds_per_token(capturing, PLAIN, options.tokens, [], True),
    }
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, run in kinds.items():
            found[kind].append(run())
    for kind, seconds in found.items():
        ratio = median(one / base for one, base in zip(seconds, found["plain"], strict=True))
        print(f"{kind:8}{1000 * median(seconds):8.2f} ms a token{ratio:8.3f} of plain")


if __name__ == "__main__":
    main()
