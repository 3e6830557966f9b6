"""Our block formats compared with ggml's C: millions of weights per second, one worker and many.

    python benchmarks/blocks.py [TYPE]... [--imatrix] [--dequantize] [--rounds N]

The first line names the processor and its caches. Every worker quantizes the same 512 rows of 2048
normally distributed weights, four times a round, and the best round counts. Many workers are as
many as there are processors: ours are processes, as in convert, the other side's are threads of
this one. All of them run, with their rows, before the clock does. ggml is the libggml-base of the
installed llama-cpp-python, called through ctypes. With --dequantize the other side is gguf-py, for
ggml-base exports no such call.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.common.blas import one_blas_thread
from franken_gguf.runner.engine.cpu_check import cpu

# The tests' binding to libggml-base: the code that our bytes are compared with.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.ggml import ggml_quantize

ROWS, COLS = 512, 2048
PASSES = 4

Work = Callable[[], None]
Team = Callable[[Work], None]
"""Runs the work once in each of its workers and returns when all are done."""


def main() -> None:
    """Print one line for each type."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", metavar="TYPE", help="default: every block type")
    parser.add_argument("--imatrix", action="store_true", help="the weighted searches")
    parser.add_argument("--dequantize", action="store_true", help="against gguf-py")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    many = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = args.types or [
        codec.name
        for codec in FORMATS.values()
        if codec.block_len > 1 and (args.imatrix or args.dequantize or not codec.needs_importance)
    ]
    other = "gguf-py" if args.dequantize else "ggml"
    print(machine())
    ours, theirs = (decode, gguf_py_decode) if args.dequantize else (encode, ggml_encode)

    with ExitStack() as stack:
        teams = [
            (count, stack.enter_context(processes(count)), stack.enter_context(threads(count)))
            for count in (1, many)
        ]
        print(
            f"Mweights/s   1 worker: ours {other:>8} ratio"
            f"   {many} workers: ours {other:>8} ratio   ours by {many}/1"
        )
        for name in (name.upper() for name in names):
            line, alone = f"{name:<8}", 0.0
            for (count, our_team, their_team), width in zip(teams, (20, 21), strict=True):
                mine = count * _speed(our_team, partial(ours, name, args.imatrix), args.rounds)
                their = count * _speed(their_team, partial(theirs, name, args.imatrix), args.rounds)
                line += f"{mine:>{width}.1f} {their:>8.1f} {mine / their:>5.2f}"
                alone = alone or mine
            print(f"{line} {mine / alone:>13.2f}", flush=True)


def machine() -> str:
    """The processor and what caches it reports: "AMD EPYC; L1 data 32K, L2 unified 1024K"."""
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    told = [
        [(one / key).read_text().strip() for key in ("level", "type", "size")] for one in caches
    ]
    sizes = [f"L{n} {kind.lower()} {size}" for n, kind, size in told if kind != "Instruction"]
    return f"{cpu()[0] or 'unknown processor'}; {', '.join(sizes) or 'caches unknown'}"


@cache
def _weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows and an importance for their columns."""
    rng = np.random.default_rng(1)
    rows = (rng.standard_normal((ROWS, COLS)) * 0.02).astype(np.float32)
    return rows, rng.random(COLS).astype(np.float32)


@cache
def _blocks(name: str) -> NDArray[np.uint8]:
    return FORMATS[name].quantize(*_weights())


def encode(name: str, weighted: bool) -> None:
    """Quantize by our own codec."""
    rows, importance = _weights()
    for _ in range(PASSES):
        FORMATS[name].quantize(rows, importance if weighted else None)


def ggml_encode(name: str, weighted: bool) -> None:
    """Quantize by ggml."""
    rows, importance = _weights()
    for _ in range(PASSES):
        ggml_quantize(FORMATS[name], rows, importance if weighted else None)


def decode(name: str, weighted: bool) -> None:
    """Dequantize by our own codec; nothing in the blocks says whether they were weighted."""
    for _ in range(PASSES):
        FORMATS[name].dequantize(_blocks(name))


def gguf_py_decode(name: str, weighted: bool) -> None:
    """Dequantize by gguf-py."""
    for _ in range(PASSES):
        quants.dequantize(_blocks(name), GGMLQuantizationType[name])


@contextmanager
def threads(count: int) -> Iterator[Team]:
    """A team of threads of this process."""
    with ThreadPoolExecutor(count) as pool:

        def team(work: Work) -> None:
            for future in [pool.submit(work) for _ in range(count)]:
                future.result()

        yield team


@contextmanager
def processes(count: int) -> Iterator[Team]:
    """A team of processes, which get the name of the work and report its end."""
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    for _ in range(count):
        end, other = context.Pipe()
        context.Process(target=_serve, args=(other,), daemon=True).start()
        ends.append(end)

    def team(work: Work) -> None:
        for end in ends:
            end.send(work)
        for end in ends:
            end.recv()

    yield team
    for end in ends:
        end.send(None)


def _serve(end: Connection) -> None:
    one_blas_thread()
    work: Work | None
    while work := end.recv():
        end.send(work())


def _speed(team: Team, work: Work, rounds: int) -> float:
    """Best of `rounds`, in millions of weights a second and worker."""
    best = float("inf")
    for _ in range(rounds + 1):  # the first warms up, and never is the best
        start = time.perf_counter()
        team(work)
        best = min(best, time.perf_counter() - start)
    return PASSES * ROWS * COLS / best / 1e6


if __name__ == "__main__":
    main()
