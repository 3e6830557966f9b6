"""Loads models in a process of its own, beside an RPC worker, and says what came of each.

A device once registered stays for the life of a process, and llama.cpp ends the process when its
worker goes: neither may happen to the other tests. Reads a JSON list of jobs from standard input,
writes a JSON list of results. With "measure" nothing is allocated and no weight is read.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from llama_cpp import llama_cpp as lib

from franken_gguf.quantize.gguf_file.header import Header, read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.this_machine import this_machine, with_vram
from franken_gguf.runner.planning.placement import Override
from franken_gguf.runner.sampling.settings import Sampling

PROMPT = "Once upon a time, in a harbour town,"
_DEFAULTS = lib.llama_model_default_params


@cache
def _header(model: str) -> Header:
    """Most of a job that only measures is reading the vocabulary in the header."""
    return read_header(Path(model))


def _measuring() -> lib.llama_model_params:
    params: lib.llama_model_params = _DEFAULTS()
    params.no_alloc = True
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    return params


def run(job: dict[str, Any], workers: list[str]) -> dict[str, Any]:
    """Load as the job says; a greedy answer, the buffers, the plan and the notices."""
    lib.llama_model_default_params = _measuring if job.get("measure") else _DEFAULTS
    machine = this_machine(workers)
    if job.get("measure"):  # nothing is allocated, so the RAM that is free does not matter
        machine = replace(machine, ram=1 << 40)
    if "vram" in job:
        machine = with_vram(machine, tuple(job["vram"]))
    overrides = tuple(Override(*pair) for pair in job.get("overrides", ()))
    wishes = {"mmap": False} | job["wishes"]
    options = LoadOptions(**wishes, overrides=overrides, n_threads=1)
    notices: list[str] = []
    with Engine(
        _header(job["model"]), options, machine=machine, on_notice=notices.append
    ) as engine:
        tokens: list[int] = []
        if count := job.get("tokens"):
            prompt = engine.vocabulary.prompt(PROMPT)
            tokens = list(engine.generate(prompt, Sampling(temperature=0), count))
        return {
            "tokens": tokens,
            "notices": notices,
            "plan": asdict(engine.plan),
            "buffers": [asdict(buffer) for buffer in engine.buffers],
        }


if __name__ == "__main__":
    print(json.dumps([run(job, sys.argv[1:]) for job in json.load(sys.stdin)]))
