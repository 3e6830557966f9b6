"""Which of llama-cpp-python's ready-made wheels fits a machine, and the command that installs it.

As listed in the README of 0.3.36 and built by its release workflows: py3-none, for x86-64 Linux and
Windows, and for Apple silicon.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib.metadata import requires
from pathlib import Path

_INDEX = "https://abetlen.github.io/llama-cpp-python/whl"
_CUDA = ((11, 8), (12, 1), (12, 2), (12, 3), (12, 4), (12, 5), (13, 0), (13, 2))
_CUDA_NOT_ON_WINDOWS = ((12, 1), (12, 2), (12, 3))
_OLDEST_FOR_CUDA_13 = 7.5


@dataclass(frozen=True)
class Driver:
    """What NVIDIA's driver supports."""

    cuda: tuple[int, int]
    """The newest CUDA version, such as (12, 4)."""
    capability: float
    """The compute capability of the oldest GPU."""


def ready_made(backend: str, system: str, machine: str, driver: Driver | None = None) -> str:
    """The wheel's name in the index, such as `cu124`; empty if there is none.

    `backend`: CUDA, ROCm, MTL, Vulkan or CPU.
    """
    if backend == "MTL":
        return "metal" if (system, machine) == ("Darwin", "arm64") else ""
    if backend == "CPU" and system == "Darwin":
        return "cpu"
    if system not in ("Linux", "Windows") or machine.lower() not in ("x86_64", "amd64"):
        return ""
    if backend == "CUDA":
        return _cuda(driver, system) if driver else ""
    rocm = "rocm72" if system == "Linux" else "hip-radeon"
    return {"ROCm": rocm, "Vulkan": "vulkan", "CPU": "cpu"}.get(backend, "")


def runtime(wheel: str) -> str:
    """The libraries that `wheel` needs from the system; empty if it includes all of them."""
    if wheel.startswith("cu"):
        return f"CUDA {wheel[2:4]}'s libcudart and libcublas"
    return {"rocm72": "ROCm 7.2", "hip-radeon": "AMD's HIP SDK"}.get(wheel, "")


def _cuda(driver: Driver, system: str) -> str:
    newest = driver.cuda if driver.capability >= _OLDEST_FOR_CUDA_13 else min(driver.cuda, (12, 99))
    excluded = _CUDA_NOT_ON_WINDOWS if system == "Windows" else ()
    fitting = [version for version in _CUDA if version <= newest and version not in excluded]
    return "cu{}{}".format(*fitting[-1]) if fitting else ""


def install_command(installer: str, wheel: str) -> str:
    """The command that replaces the installed llama-cpp-python by `wheel`.

    It gives pip no other index, so that pip cannot choose a newer source package to compile.
    """
    declared = requires("franken-gguf") or ()
    requirement = next(line for line in declared if line.startswith("llama-cpp-python"))
    return f'{installer} --force-reinstall --no-deps --index-url {_INDEX}/{wheel} "{requirement}"'


def installer(prefix: Path, python: str, system: str) -> str:
    """The start of a command that installs into the environment at `prefix`, that of `python`.

    Environments made by pipx and uv have no pip.
    """
    if (prefix / "pipx_metadata.json").exists():
        return "pipx runpip franken-gguf install"
    quoted = f'"{python}"' if system == "Windows" else shlex.quote(python)
    if (prefix / "uv-receipt.toml").exists():
        return f"uv pip install --python {quoted}"
    call = "& " if system == "Windows" else ""  # PowerShell
    return f"{call}{quoted} -m pip install"
