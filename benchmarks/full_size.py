"""The chat's engine beside bare llama_decode loops over a model loaded in each of the four ways.

    python benchmarks/full_size.py MODEL.gguf [--memory 16GiB] [--cold] [--way WAY]...

A file is mapped or read, and what can be repacked for this CPU is or is not. Each way has a process
of its own, and they take turns. The bare loops have the engine's context, and write what its greedy
answer is. Resident is how much the process grew from the start of loading to the last token;
mapped is the file's part of it. --memory makes a smaller machine, by a control group (Linux,
version 1, as root). --cold takes the file out of the page cache before each turn. On a busy machine
--cpu-time with --threads 1 counts this process's CPU time instead of the clock's.
benchmarks/large_model.py makes the model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli.options.types import size
from franken_gguf.runner.common.hardware import default_threads
from franken_gguf.runner.engine.backend import loaded_model, start
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.loading import context_params
from franken_gguf.runner.engine.this_machine import this_machine
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.placement import PlacementOptions
from franken_gguf.runner.planning.planner import plan
from franken_gguf.runner.sampling.settings import Sampling
from support.resident import resident

WAYS = {
    "mapped and repacked": (True, True),
    "mapped": (True, False),
    "read and repacked": (False, True),
    "read": (False, False),
}
ENGINE = "chat's engine"
CHOSEN = {ways: name for name, ways in WAYS.items()}
_GROUP = Path("/sys/fs/cgroup/memory") / f"franken-gguf-{os.getpid()}"
_MIB = 1 << 20
_WISHES = PlacementOptions(n_gpu_layers=0)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """One turn, in this process: seconds to load, tokens a second, bytes."""
    clock = time.process_time if options.cpu_time else time.perf_counter
    way = options.way[-1]
    prompt = [1000 + 7 * n for n in range(options.prompt)]
    start()
    before, started = resident(), clock()
    load = engine if way == ENGINE else bare
    with load(way, options) as (chosen, foreseen, answer):
        times = [clock()]
        for _ in answer(prompt, options.tokens + 1):
            times.append(clock())
        if len(times) != options.tokens + 2:
            raise SystemExit("the answer ended too soon: give another --prompt")
        grown = resident().since(before)
    return {
        "way": chosen,
        "load": times[0] - started,
        "prompt": options.prompt / (times[1] - times[0]),
        "decode": options.tokens / (times[-1] - times[1]),
        "resident": sum(grown),
        "mapped": grown.files,
        "foreseen": foreseen,
    }


Answer = Callable[[list[int], int], Iterator[int]]


@contextmanager
def bare(way: str, options: argparse.Namespace) -> Iterator[tuple[str, int, Answer]]:
    """llama_decode and argmax, and nothing of ours between."""
    mmap, repack = WAYS[way]
    header = read_header(options.model)
    decided = plan(model_shape(header), this_machine(), _WISHES)
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if mmap else lib.LLAMA_LOAD_MODE_NONE
    params.use_extra_bufts = repack
    with loaded_model(header, params) as model:
        context = lib.llama_init_from_model(model, context_params(decided, options.threads))
        n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

        def decode(tokens: list[int]) -> int:
            array = (lib.llama_token * len(tokens))(*tokens)
            if lib.llama_decode(context, lib.llama_batch_get_one(array, len(tokens))):
                raise SystemExit("llama_decode failed")
            logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, -1), (n_vocab,))
            return int(logits.argmax())

        def answer(prompt: list[int], count: int) -> Iterator[int]:
            token = decode(prompt)
            yield token
            for _ in range(count - 1):
                token = decode([token])
                yield token

        yield way, 0, answer
        lib.llama_free(context)


@contextmanager
def engine(_: str, options: argparse.Namespace) -> Iterator[tuple[str, int, Answer]]:
    """What the chat loads and writes with, as its plan decides."""
    placement = LoadOptions(n_gpu_layers=0, n_threads=options.threads)
    with Engine(read_header(options.model), placement) as loaded:
        chosen = CHOSEN[loaded.plan.mmap, loaded.plan.repack]

        def answer(prompt: list[int], count: int) -> Iterator[int]:
            yield from loaded.generate(prompt, Sampling(temperature=0), count)

        yield f"{ENGINE}: {chosen}", loaded.plan.total_ram, answer


@contextmanager
def machine_of(memory: int | None) -> Iterator[Callable[[], None]]:
    """What a child is to call first, to be on a machine of so many bytes; None is this one."""
    if memory is None:
        yield lambda: None
        return
    _GROUP.mkdir()
    try:
        (_GROUP / "memory.limit_in_bytes").write_text(str(memory))
        yield lambda: enter(_GROUP)
    finally:
        _GROUP.rmdir()


def enter(group: Path) -> None:
    """Go into a control group."""
    (group / "cgroup.procs").write_text(str(os.getpid()))


def forget(path: Path) -> None:
    """Take the file out of the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    """Measure each way in a child of its own and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--way", choices=[*WAYS, ENGINE], action="append")
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--memory", type=size)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options)))
        return
    rows = []
    for way in options.way or [*WAYS, ENGINE]:
        if options.cold:
            forget(options.model)
        with machine_of(options.memory) as go_there:
            done = subprocess.run(
                [sys.executable, *sys.argv, "--child", "--way", way],
                preexec_fn=go_there,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            print(f"{way}: ended with {done.returncode}: {done.stderr[-500:]}", flush=True)
        else:
            rows.append(json.loads(done.stdout))
            print(f"{rows[-1]}", file=sys.stderr, flush=True)
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table; the ratio is to the fastest of the bare loops."""
    best = max((row["decode"] for row in rows if not row["foreseen"]), default=0)
    print("| way | load s | prompt tokens/s | tokens/s | ratio | resident MiB | of it mapped |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        figures = [f"{row['load']:.1f}", f"{row['prompt']:.2f}", f"{row['decode']:.2f}"]
        figures.append(f"{row['decode'] / best:.2f}" if best else "-")
        figures += [f"{row[key] / _MIB:,.0f}" for key in ("resident", "mapped")]
        print(f"| {row['way']} | {' | '.join(figures)} |")
    for row in rows:
        if row["foreseen"]:
            share = row["foreseen"] / row["resident"] - 1
            print(f"planned: {row['foreseen'] / _MIB:,.0f} MiB, {share:+.1%} of what is resident")


if __name__ == "__main__":
    main()
