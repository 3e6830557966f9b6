"""What a CPU takes for a token with the experts of the first layers in RAM, and with those planned.

    python benchmarks/expert_placement.py [--types IQ3_XXS IQ4_XS] [--part 0.5] [--rounds 3]

A mixture of random weights whose layers' experts are in the types by turns; an RPC worker on
loopback is the device, with room for `--part` of the model. The CPU seconds are those of the
process that has the experts in RAM, on one thread, not repacked, as beside a GPU that pins RAM;
what is on the device is computed by the worker. The two placements take turns, and the fastest
round counts: other work on the machine slows both alike.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from decode_types import SHAPE, seconds
from large_model import random_model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from franken_gguf.quantize.blocks.cpu_decode import decode_time
from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.this_machine import this_machine, with_vram
from franken_gguf.runner.planning.expert_order import experts_in_ram
from franken_gguf.runner.planning.memory_use import CPU
from franken_gguf.runner.planning.model_shape import ModelShape, model_shape
from franken_gguf.runner.planning.placement import Machine, Override, Plan
from franken_gguf.runner.planning.planner import plan
from support.workers import rpc_environment, worker

LAYERS = 8
WISHES = LoadOptions(n_threads=1, n_ctx=64, mmap=False, repack=False)


def main() -> None:
    """Print a line for each placement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--types", nargs="+", choices=FORMATS, default=["IQ3_XXS", "IQ4_XS"])
    parser.add_argument("--part", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=12)
    options = parser.parse_args()
    if "GGML_BACKEND_PATH" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], rpc_environment())
    with tempfile.TemporaryDirectory() as folder, worker() as endpoint, ExitStack() as opened:
        path = Path(folder) / "mixed.gguf"
        random_model(path, "Q5_K", LAYERS, SHAPE, options.types)
        header = read_header(path)
        shape = model_shape(header)
        room = int(options.part * sum(weight.nbytes for weight in shape.weights))
        here = with_vram(this_machine([endpoint]), (room,))
        by_hand = first_layers(shape, here)
        engines = {
            "first layers": opened.enter_context(Engine(header, by_hand, machine=here)),
            "planned": opened.enter_context(Engine(header, WISHES, machine=here)),
        }
        fastest = dict.fromkeys(engines, float("inf"))
        for number in range(options.rounds):
            for name, engine in engines.items():
                fastest[name] = min(fastest[name], seconds(engine, options.tokens, number))
        print("| experts in RAM | layers | MiB | predicted time | CPU s/token |")
        print("| --- | --- | ---: | ---: | ---: |")
        for name, engine in engines.items():
            print(f"| {name} | {described(shape, engine.plan)} | {fastest[name]:.3f} |")


def first_layers(shape: ModelShape, machine: Machine) -> LoadOptions:
    """The options with the experts of as few first layers in RAM as there is room for."""
    tries = (
        replace(WISHES, n_gpu_layers=-1, n_cpu_moe=n, overrides=overrides)
        for n in range(LAYERS + 1)
        for overrides in parts(n)
    )
    return next(options for options in tries if plan(shape, machine, options).fits)


def parts(layer: int) -> Iterator[tuple[Override, ...]]:
    """Overrides that keep none, one or two projections of a layer's experts in RAM."""
    yield ()
    for names in ("down", "gate|down"):
        yield (Override(rf"blk\.{layer}\.ffn_({names})_exps", CPU),)


def described(shape: ModelShape, found: Plan) -> str:
    """The layers, their bytes and the time that the planner counts with."""
    weights = experts_in_ram(shape, found)
    layers = ", ".join(map(str, sorted({weight.layer for weight in weights})))
    nbytes = sum(weight.nbytes for weight in weights)
    time = sum(decode_time(weight.kind, weight.nbytes) for weight in weights)
    return f"{layers} | {nbytes / 2**20:.0f} | {time / 1e6:.0f}"


if __name__ == "__main__":
    main()
