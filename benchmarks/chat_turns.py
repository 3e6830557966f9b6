"""Overhead of a chat: its start, its 20th turn, and its memory after 200.

    python benchmarks/chat_turns.py MODEL.gguf [--threads N] [--turns 200]

Three figures. "start": seconds from the command `chat -p` to the first byte of its answer, against
a process that only imports llama_cpp, loads the model and makes a context, and against one that
evaluates as many tokens after that; the best of five each.
"turn 20": seconds from the question to the answer's first piece, against turn 2, answers of 40
tokens. "memory": what stays resident after many turns at a context of 1024, against turn 40.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from franken_gguf.runner import LoadOptions, load
from franken_gguf.runner.common.hardware import default_threads

BARE = """
import sys
from llama_cpp import llama_cpp as lib
quiet = lib.llama_log_callback(lambda *_: None)
lib.llama_log_set(quiet, None)
lib.llama_backend_init()
model = lib.llama_model_load_from_file(sys.argv[1].encode(), lib.llama_model_default_params())
params = lib.llama_context_default_params()
params.n_ctx = 4096
params.n_threads = params.n_threads_batch = int(sys.argv[2])
context = lib.llama_init_from_model(model, params)
count = int(sys.argv[3])
if count:
    tokens = (lib.llama_token * count)(*range(100, 100 + count))
    assert lib.llama_decode(context, lib.llama_batch_get_one(tokens, count)) == 0
print("x", flush=True)
"""


def first_byte(command: list[str]) -> float:
    """Seconds until `command` writes something."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    if not os.read(process.stdout.fileno(), 1):
        raise SystemExit(f"{command[0]} wrote nothing")
    seconds = time.perf_counter() - started
    process.kill()
    process.communicate()
    return seconds


def start(model: Path, threads: int) -> None:
    """Print the times to the first byte."""
    with load(model, LoadOptions(n_threads=threads), max_tokens=1) as chat:
        answer = chat.ask("Hello")
        answer.read()
        count = answer.generation.prompt_tokens
    bare = [sys.executable, "-c", BARE, str(model), str(threads)]
    command = str(Path(sys.executable).with_name("franken-gguf"))
    ours = [command, "chat", str(model), "-p", "Hello", "-t", str(threads)]
    rounds = [[first_byte(c) for c in ([*bare, "0"], [*bare, str(count)], ours)] for _ in range(5)]
    loaded, evaluated, first = (min(times) for times in zip(*rounds, strict=True))
    print(
        f"start    first token {first:.2f} s; bare load {loaded:.2f} s: {first / loaded:.2f}; "
        f"with its {count} tokens {evaluated:.2f} s: {first / evaluated:.2f}"
    )


def turn_20(model: Path, threads: int) -> None:
    """Print the times to the first piece of turns 2 and 20."""
    with load(model, LoadOptions(n_threads=threads), max_tokens=40) as chat:
        seconds = []
        for number in range(10, 30):
            started = time.perf_counter()
            pieces = iter(chat.ask(f"Tell me number {number} of the things that sailors know."))
            next(pieces)
            seconds.append(time.perf_counter() - started)
            for _ in pieces:
                pass
    second, twentieth = seconds[1], seconds[19]
    print(f"turn 20  {twentieth:.3f} s, turn 2 {second:.3f} s: {twentieth / second:.2f}")


def memory(model: Path, threads: int, turns: int) -> None:
    """Print the resident memory after 40 turns and at the end."""
    sizes = []
    with load(model, LoadOptions(n_ctx=1024, n_threads=threads), max_tokens=24) as chat:
        for number in range(turns):
            chat.ask(f"Tell me number {number} of the things that sailors know.").read()
            sizes.append(psutil.Process().memory_info().rss)
        messages, forgotten = len(chat.conversation.messages), chat.conversation.forgotten
    warm, end = sizes[min(40, turns // 2)], max(sizes)
    print(
        f"memory   {warm / 2**20:.1f} MiB, at most {end / 2**20:.1f} MiB: {end / warm:.3f} "
        f"({messages} messages, {forgotten} of them left the context)"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    start(options.model, options.threads)
    turn_20(options.model, options.threads)
    memory(options.model, options.threads, options.turns)


if __name__ == "__main__":
    main()
