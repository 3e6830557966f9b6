"""What serving costs beside `chat`: `PYTHONPATH=tests python benchmarks/serve_speed.py MODEL`.

The same turns of the same conversation, in turn from a server, by OpenAI's API, and from a chat in
this process: milliseconds to the first token of a turn whose beginning is evaluated, and of another
answer to it, and for each token after it. The figures are medians, their ratios those of the turns.
CPU time is that of the server's processes, or of this one: on a busy machine it tells more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from franken_gguf.runner import Answer, Chat, LoadOptions, load
from franken_gguf.runner.chat.answer import Text
from franken_gguf.runner.sampling.settings import Sampling
from support.servers import Server, serving

TOKENS, TURNS, N_CTX = 64, 8, 2048
SYSTEM = "The keeper walked to the harbour and looked at the sea. " * 40


@dataclass(frozen=True)
class Timed:
    """An answer's times, in milliseconds."""

    first: float
    gaps: list[float]
    """Between its tokens."""
    cpu: float
    """CPU time, for each token."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    flags = ["-t", str(options.threads), "-c", str(N_CTX)]
    settings = LoadOptions(n_ctx=N_CTX, n_threads=options.threads, n_gpu_layers=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), *flags, model=options.model) as server,
        load(options.model, settings, system=SYSTEM, max_tokens=TOKENS) as chat,
    ):
        never = tuple((token, float("-inf")) for token in chat.engine.vocabulary.end_tokens)
        chat.sampling = Sampling(temperature=0, logit_bias=never)
        turns, again = measured(server, chat)
    report("a turn", turns[1:])  # the first turn reads the whole prompt
    report("another answer", again)


def measured(
    server: Server, chat: Chat
) -> tuple[list[tuple[Timed, Timed]], list[tuple[Timed, Timed]]]:
    """The times of each turn, and of another answer to it: in the chat, and as served."""
    turns, again = [], []
    for number in range(TURNS):
        ours = from_chat(chat.ask(f"And then? ({number})"))
        messages = as_json(chat)[:-1]
        turns.append((ours, from_server(server, messages)))
        again.append((from_chat(chat.regenerate()), from_server(server, messages)))
    return turns, again


def as_json(chat: Chat) -> list[dict[str, str]]:
    """The conversation as a client sends it."""
    told = [{"role": one.role, "content": one.content} for one in chat.conversation.messages]
    return [{"role": "system", "content": SYSTEM}, *told]


def from_chat(answer: Answer) -> Timed:
    """The times of an answer in this process."""
    before = time.process_time()
    started = time.perf_counter()
    times = [time.perf_counter() - started for piece in answer if isinstance(piece, Text)]
    return timed(times, time.process_time() - before)


def from_server(server: Server, messages: list[dict[str, str]]) -> Timed:
    """The times of an answer as a client sees it."""
    fields = {
        "messages": messages,
        "temperature": 0,
        "ignore_eos": True,
        "max_tokens": TOKENS,
        "stream": True,
    }
    before = cpu_seconds(server)
    started = time.perf_counter()
    with server.response("POST", "/v1/chat/completions", fields) as response:
        if response.status != 200:
            raise SystemExit(response.read().decode())
        times = [time.perf_counter() - started for _ in contents(response)]
    return timed(times, cpu_seconds(server) - before)


def contents(lines: Iterator[bytes]) -> Iterator[str]:
    """The text of each token of a stream."""
    for line in lines:
        if line.startswith(b"data: {"):
            found: dict[str, Any] = json.loads(line[len(b"data: ") :])
            delta = found["choices"][0]["delta"]
            if "content" in delta and "role" not in delta:
                yield delta["content"]


def timed(times: list[float], cpu: float) -> Timed:
    """Times since the start, in seconds, as a Timed."""
    gaps = [(later - one) * 1e3 for one, later in pairwise(times)]
    return Timed(times[0] * 1e3, gaps, cpu * 1e3 / len(times))


def cpu_seconds(server: Server) -> float:
    """CPU time that the server's processes have used."""
    process = psutil.Process(server.process.pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


FIGURES: dict[str, Callable[[Timed], float]] = {
    "first token": lambda one: one.first,
    "each token": lambda one: statistics.median(one.gaps),
    "CPU, each token": lambda one: one.cpu,
}


def report(what: str, pairs: list[tuple[Timed, Timed]]) -> None:
    """Print the medians and the ratios of a kind of answer."""
    print(f"{what}: {len(pairs)} times {TOKENS} tokens")
    for name, figure in FIGURES.items():
        ours, theirs = ([figure(one) for one in side] for side in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
        print(
            f"  {name:16} chat {statistics.median(ours):7.2f} ms, served "
            f"{statistics.median(theirs):7.2f} ms, ratio {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
