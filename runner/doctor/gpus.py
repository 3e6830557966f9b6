"""GPUs of this machine that this build of llama.cpp cannot use, and how to fix that."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from franken_gguf.runner.common.ready_made_wheels import (
    Driver,
    install_command,
    installer,
    ready_made,
    runtime,
)
from franken_gguf.runner.terminal.text import printable

_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_REBUILD = "--force-reinstall --no-cache-dir llama-cpp-python"
_PATIENCE = 10.0


@dataclass(frozen=True)
class Facts:
    """Raw facts about the machine and the build."""

    system: str
    """Linux, Darwin or Windows."""
    machine: str
    """x86_64, arm64, ..."""
    backends: tuple[str, ...]
    """In the build: CPU, CUDA, ROCm, MTL, Vulkan, SYCL, RPC."""
    backends_with_device: tuple[str, ...]
    """Those of them that found a device."""
    display_vendors: tuple[str, ...] = ()
    """PCI vendors of the graphics devices in /sys/class/drm."""
    nvidia_gpus: tuple[str, ...] = ()
    """Names from nvidia-smi."""
    nvidia_driver: bool = False
    """nvidia-smi works, or /proc/driver/nvidia exists."""
    tools: tuple[str, ...] = ()
    """Installed compilers: nvcc (CUDA), hipcc (ROCm), glslc (Vulkan)."""
    driver: Driver | None = None
    """What NVIDIA's driver supports, from nvidia-smi."""
    installer: str = "pip install"
    """The start of a command that installs into this environment."""


@dataclass(frozen=True)
class Unused:
    """A GPU that this build of llama.cpp does not use."""

    gpu: str
    command: str
    """The command that builds llama-cpp-python for it; empty if this build supports it already."""
    needs: str = ""
    """What has to be installed or fixed first."""
    ready_made: str = ""
    """The command that installs a wheel compiled for it; empty if there is none."""
    ready_made_needs: str = ""
    """The libraries that this wheel needs from the system."""


def unused_gpus(facts: Facts) -> list[Unused]:
    """The GPUs in the machine that no backend of the build uses, each with the fix. Pure."""
    if "Vulkan" in facts.backends_with_device:  # supports all of them
        return []
    unused = []
    if facts.system == "Darwin" and facts.machine == "arm64":
        unused.append(_unused(facts, "Apple silicon", "MTL", "GGML_METAL", ()))
    if facts.nvidia_driver or "NVIDIA" in facts.display_vendors:
        gpu = ", ".join(facts.nvidia_gpus) or "NVIDIA GPU"
        driver = () if facts.nvidia_driver else ("NVIDIA's driver",)
        compiler = () if "nvcc" in facts.tools else ("the CUDA toolkit (nvcc)",)
        unused.append(_unused(facts, gpu, "CUDA", "GGML_CUDA", (*driver, *compiler)))
    if "AMD" in facts.display_vendors:
        if "hipcc" in facts.tools or "ROCm" in facts.backends:
            unused.append(_unused(facts, "AMD GPU", "ROCm", "GGML_HIP", ()))
        else:
            unused.append(_by_vulkan(facts, "AMD GPU"))
    if "Intel" in facts.display_vendors and "SYCL" not in facts.backends_with_device:
        unused.append(_by_vulkan(facts, "Intel GPU"))
    return [gpu for gpu in unused if gpu]


def _by_vulkan(facts: Facts, gpu: str) -> Unused | None:
    needs = () if "glslc" in facts.tools else ("the Vulkan SDK (glslc and headers)",)
    return _unused(facts, gpu, "Vulkan", "GGML_VULKAN", needs)


def _unused(
    facts: Facts, gpu: str, backend: str, option: str, needs: tuple[str, ...]
) -> Unused | None:
    if backend in facts.backends_with_device:
        return None
    if backend in facts.backends:
        return Unused(
            gpu, "", f"an answer from its driver: {backend} is built in and finds nothing"
        )
    variable = f'CMAKE_ARGS="-D{option}=on"'
    command = f"$env:{variable}; " if facts.system == "Windows" else f"{variable} "
    wheel = ready_made(backend, facts.system, facts.machine, facts.driver)
    return Unused(
        gpu,
        f"{command}{facts.installer} {_REBUILD}",
        " and ".join(needs),
        install_command(facts.installer, wheel) if wheel else "",
        runtime(wheel),
    )


def gather(
    backends: tuple[str, ...], backends_with_device: tuple[str, ...], root: Path = Path("/")
) -> Facts:
    """Collect the facts about this machine's GPUs; Linux's /proc and /sys are read under `root`."""
    gpus = _nvidia_smi("--query-gpu=name", "--format=csv,noheader")
    tools = {name: shutil.which(name) for name in ("nvcc", "hipcc", "glslc")}
    if (root / "usr/local/cuda/bin/nvcc").exists():  # often not on the PATH
        tools["nvcc"] = "nvcc"
    return Facts(
        system=platform.system(),
        machine=platform.machine(),
        backends=backends,
        backends_with_device=backends_with_device,
        display_vendors=_display_vendors(root / "sys/class/drm"),
        nvidia_gpus=gpus,
        nvidia_driver=bool(gpus) or (root / "proc/driver/nvidia/version").exists(),
        tools=tuple(name for name, path in tools.items() if path),
        driver=_nvidia_driver() if gpus else None,
        installer=installer(Path(sys.prefix), sys.executable, platform.system()),
    )


def _nvidia_driver() -> Driver | None:
    capabilities = _nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader")
    cuda = re.search(r"CUDA Version\s*: (\d+)\.(\d+)", "\n".join(_nvidia_smi()))
    try:
        oldest = min(float(capability) for capability in capabilities)
    except ValueError:
        return None
    return Driver((int(cuda[1]), int(cuda[2])), oldest) if cuda else None


def _nvidia_smi(*arguments: str) -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if not command:
        return ()
    try:
        listed = subprocess.run(
            [command, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(printable(line.strip()) for line in listed.stdout.splitlines() if line.strip())


def _display_vendors(folder: Path) -> tuple[str, ...]:
    vendors = set()
    for file in folder.glob("card*/device/vendor"):
        try:
            vendors.add(_VENDORS.get(file.read_text().strip(), ""))
        except OSError:
            continue
    return tuple(sorted(vendors - {""}))
