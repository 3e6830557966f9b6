"""What serving costs: `PYTHONPATH=tests python benchmarks/serve_speed.py MODEL [--load]`.

Streams the same answers from a server and from a chat in this process, in turn; then the first
token of a prompt whose beginning is kept. With --load, a thousand requests of mixed kinds from 16
connections instead, a tenth of them broken off.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from franken_gguf.runner import Chat, LoadOptions, Sampling, load
from support.servers import Server, serving

_TOKENS, _ROUNDS = 96, 5
_STORY = "The keeper walked to the harbour and looked at the sea. " * 60
_GREEDY = Sampling(temperature=0)
_REQUESTS, _CONNECTIONS = 1000, 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    flags = ["-t", str(options.threads), "-c", "4096"]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), *flags, model=options.model) as server,
    ):
        if options.load:
            load_test(server)
            return
        settings = LoadOptions(n_ctx=4096, n_threads=options.threads, n_gpu_layers=0)
        with load(options.model, settings) as chat:
            speed(server, chat)


def speed(server: Server, chat: Chat) -> None:
    """Milliseconds per streamed token, and to the first token after a kept prompt."""
    tokens = chat.engine.vocabulary.prompt(_STORY)
    ours, theirs, first_ours, first_theirs = [], [], [], []
    for number in range(_ROUNDS + 1):
        prompt = [*tokens, *chat.engine.vocabulary.tokenize(f" Number {number}.")]
        first, each = from_chat(chat, prompt)
        first_ours.append(first)
        ours.append(each)
        first, each = from_server(server, prompt)
        first_theirs.append(first)
        theirs.append(each)
    # The first round reads the whole prompt.
    for what, plain, served in (
        ("a token", ours[1:], theirs[1:]),
        ("the first token of a kept prompt", first_ours[1:], first_theirs[1:]),
    ):
        ratios = [b / a for a, b in zip(plain, served, strict=True)]
        middle = statistics.median(plain) * 1e3, statistics.median(served) * 1e3
        print(
            f"{what}: chat {middle[0]:.2f} ms, served {middle[1]:.2f} ms, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def from_chat(chat: Chat, prompt: list[int]) -> tuple[float, float]:
    """Seconds to the first token, and for each one after it, in this process."""
    started = time.perf_counter()
    times = [time.perf_counter() - started for _ in chat.engine.generate(prompt, _GREEDY, _TOKENS)]
    return times[0], (times[-1] - times[0]) / (len(times) - 1)


def from_server(server: Server, prompt: list[int]) -> tuple[float, float]:
    """The same as a client sees it."""
    fields = {"prompt": prompt, "temperature": 0, "n_predict": _TOKENS, "stream": True}
    started = time.perf_counter()
    times = []
    with server.response("POST", "/completion", fields) as response:
        while line := response.readline():
            if line.startswith(b"data:"):
                times.append(time.perf_counter() - started)
    times.pop()  # the end
    return times[0], (times[-1] - times[0]) / (len(times) - 1)


def load_test(server: Server) -> None:
    """A thousand requests: what they were answered, memory, and how long each client waited."""
    process = psutil.Process(server.process.pid)
    workers = [process, *process.children(recursive=True)]
    numbers = iter(range(_REQUESTS))
    lock, statuses, waits = threading.Lock(), Counter[str](), dict[int, list[float]]()
    memory: list[int] = []

    def client(name: int) -> None:
        dice = random.Random(name)
        waits[name] = []
        while True:
            with lock:
                number = next(numbers, None)
                if number is not None and number % 100 == 0:
                    memory.append(sum(one.memory_info().rss for one in workers) >> 20)
            if number is None:
                return
            started = time.perf_counter()
            result = one_request(server, name, dice)
            waits[name].append(time.perf_counter() - started)
            with lock:
                statuses[result] += 1

    threads = [threading.Thread(target=client, args=(name,)) for name in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    means = sorted(statistics.mean(one) for one in waits.values() if one)
    print(f"answers: {dict(statuses)}")
    print(f"memory, MiB, every 100 requests: {memory}")
    print(f"mean wait of a client, s: {means[0]:.2f} to {means[-1]:.2f}")


def one_request(server: Server, name: int, dice: random.Random) -> str:
    """The status of a request of any kind, or "broken off"."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/completion", {"prompt": f"{dice.random()} is", "stream": True, "n_predict": 8}),
        ("/completion", {"prompt": "The sea", "n_probs": 3, "n_predict": 8}),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8},
        ),
        ("/v1/completions", {"prompt": "word " * dice.randrange(300), "max_tokens": 4}),
        ("/api/v1/generate", {"prompt": "Once", "max_length": 8}),
        ("/tokenize", {"content": "word " * 100}),
    ]
    path, fields = dice.choice(kinds)
    try:
        with server.response("POST", path, fields, {"User-Agent": f"client {name}"}) as response:
            if dice.random() < 0.1:
                response.read(dice.randrange(1, 100))
                return "broken off"
            content = response.read()
            return "error in a stream" if b"event: error" in content else str(response.status)
    except OSError as error:
        return type(error).__name__


if __name__ == "__main__":
    main()
