"""Whether llama.cpp's AMX code works on this CPU, and the environment that compiles it without.

AMX is the matrix unit of Intel's server CPUs since Sapphire Rapids. With some compilers, kernels
and virtual machines llama.cpp's AMX code crashes: amx_probe.cpp tests that; it is compiled like
llama.cpp and run in a child process. FRANKEN_GGUF_AMX=on or off overrides the result.

For tools/setup_env.py: only the standard library, and syntax that Python 3.7 can read.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

VARIABLE = "FRANKEN_GGUF_AMX"
FLAGS_WITHOUT = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
SOURCE = Path(__file__).resolve().parent / "amx_probe.cpp"
# As in llama.cpp's own build.
PROBE_FLAGS = ("-O3", "-DNDEBUG", "-fPIC", "-march=native", "-pthread")
CPUINFO = Path("/proc/cpuinfo")
PATIENCE_SECONDS = 60


def fault(environ: dict[str, str], cpuinfo: Path = CPUINFO) -> str:
    """What goes wrong with AMX here, in a few words; "" if it works or is not present.

    Raises ValueError for a FRANKEN_GGUF_AMX that is neither on nor off.
    """
    forced = environ.get(VARIABLE, "")
    if forced not in ("", "on", "off"):
        raise ValueError(f"{VARIABLE}={forced}: must be on (compile AMX in) or off (leave it out)")
    if forced:
        return f"{VARIABLE}=off" if forced == "off" else ""
    if not is_listed(cpuinfo):
        return ""
    compiler = cxx(environ)
    return probe_fault(compiler, environ) if compiler else ""


def is_listed(cpuinfo: Path = CPUINFO) -> bool:
    """Whether Linux lists AMX among the CPU's flags."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"^flags\s*:.*\bamx_tile\b", text, re.MULTILINE) is not None


def cxx(environ: dict[str, str]) -> list[str]:
    """The C++ compiler that CMake would choose; [] if there is none."""
    if environ.get("CXX"):
        return shlex.split(environ["CXX"])
    found = (shutil.which(name) for name in ("c++", "g++", "clang++"))
    return [path for path in found if path][:1]


def probe_fault(compiler: list[str], environ: dict[str, str]) -> str:
    """How compiling or running amx_probe.cpp failed; "" if it worked."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "amx_probe")
        flags = [*shlex.split(environ.get("CXXFLAGS", "")), *PROBE_FLAGS]
        if ending([*compiler, *flags, str(SOURCE), "-o", program]):
            return "its probe cannot be compiled"
        return ending([program])


def ending(command: list[str]) -> str:
    """How a program ended, if not well: a signal's name, or what it printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    printed = done.stdout.decode("utf-8", "replace").strip()
    return (printed or f"exit status {done.returncode}") if done.returncode else ""


def can_leave_out(compiler: list[str]) -> bool:
    """Whether the compiler knows the flags. One that does not know them has no AMX either."""
    flags = [*FLAGS_WITHOUT, "-fsyntax-only", "-x", "c++", os.devnull]
    return bool(compiler) and not ending([*compiler, *flags])


def environment_without(environ: dict[str, str], cache: Path) -> dict[str, str]:
    """The environment in which pip compiles llama.cpp without AMX.

    `cache` becomes pip's cache: pip knows a wheel that it compiled by its source's address and not
    by the flags, and would take one with AMX from the usual cache or leave this one there.
    """
    changed = dict(environ, PIP_CACHE_DIR=str(cache))
    for name in ("CFLAGS", "CXXFLAGS"):
        changed[name] = " ".join(filter(None, (environ.get(name), *FLAGS_WITHOUT)))
    return changed


def is_left_out(environ: dict[str, str]) -> bool:
    """Whether the environment is one that `environment_without` made."""
    return environ.get("CXXFLAGS", "").split()[-len(FLAGS_WITHOUT) :] == [*FLAGS_WITHOUT]
