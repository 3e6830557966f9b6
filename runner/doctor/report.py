"""Collects what `franken-gguf doctor` reports from the build and the machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

import psutil
from llama_cpp import llama_cpp as lib

from franken_gguf.runner.common.hardware import available_memory, default_threads, total_memory
from franken_gguf.runner.engine.backend import start
from franken_gguf.runner.engine.cpu_check import Verdict, check, rebuild
from franken_gguf.runner.engine.ggml import GgmlDevice, backends, devices

from .gpus import Unused, gather, unused_gpus


@dataclass(frozen=True)
class Checkup:
    """The build and the machine. Memory in bytes."""

    version: str
    python: str
    platform: str
    llama_cpp_python: str
    backends: tuple[str, ...]
    cpu_features: tuple[str, ...]
    """Instruction sets and features that this build of ggml uses."""
    devices: tuple[GgmlDevice, ...]
    ram: int
    ram_available: int
    cores: int
    logical_cores: int
    threads: int
    """The default number of threads for a model."""
    unused: tuple[Unused, ...]
    cpu_check: Verdict
    """Whether llama.cpp runs on this CPU, with and without extra buffers."""
    rebuild: str = ""
    """The command that rebuilds llama.cpp, if it crashed."""


def checkup() -> Checkup:
    """Examine the build and the machine; only cpu_check.py's tiny model is loaded, if need be.

    If llama.cpp crashes on this CPU, its backends, features and devices are left empty. Raises
    EngineError.
    """
    verdict = check()
    built: tuple[str, ...] = ()
    registered: tuple[GgmlDevice, ...] = ()
    features: tuple[str, ...] = ()
    if verdict.can_run:
        start()
        built, registered = backends(), tuple(devices())
        features = _features(lib.llama_print_system_info().decode(errors="replace"))
    logical = psutil.cpu_count() or 1
    with_device = tuple({device.backend for device in registered})
    return Checkup(
        version=version("franken-gguf"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        llama_cpp_python=version("llama-cpp-python"),
        backends=built,
        cpu_features=features,
        devices=registered,
        ram=total_memory(),
        ram_available=available_memory(),
        cores=psutil.cpu_count(logical=False) or logical,
        logical_cores=logical,
        threads=default_threads(),
        unused=tuple(unused_gpus(gather(built, with_device))) if verdict.can_run else (),
        cpu_check=verdict,
        rebuild=rebuild() if verdict.fault else "",
    )


def _features(info: str) -> tuple[str, ...]:
    """The names that have `NAME = 1` in the line of llama_print_system_info."""
    pairs = (part.rpartition(":")[2].split("=") for part in info.split("|"))
    return tuple(pair[0].strip() for pair in pairs if len(pair) == 2 and pair[1].strip() == "1")
