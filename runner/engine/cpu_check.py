"""Whether the installed llama.cpp runs on this CPU: tested once in a child process, then cached.

llama.cpp copies some weights into extra buffers: repacked for wide instructions, or for AMX,
Intel's matrix unit. That code crashes on some machines (llama.cpp #20824), and a build for another
CPU crashes on any model. So before the first model is loaded, a child process runs a tiny one; if
it crashes, another runs it without extra buffers. The verdict is cached in the user's cache folder,
with the build and the CPU as its key.

The environment variable FRANKEN_GGUF_EXTRA_BUFFERS replaces the check: "off" loads models without
extra buffers, "on" with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from platformdirs import user_cache_path

from franken_gguf.quantize.common.files import replacing
from franken_gguf.runner.common.ready_made_wheels import installer
from franken_gguf.runner.common.rebuild_command import rebuild_command
from franken_gguf.runner.terminal.text import printable

from .backend import EngineError
from .tiny_model import write_tiny_model

VARIABLE = "FRANKEN_GGUF_EXTRA_BUFFERS"
PATIENCE_SECONDS = 30.0
CPUINFO = Path("/proc/cpuinfo")
_CPUINFO_KEYS = ("model name", "flags", "CPU implementer", "CPU part", "Features")
TRIAL = (sys.executable, "-m", "franken_gguf.runner.engine.trial")
_MAX_RECORD_BYTES = 4096
_FATAL_SIGNALS = ("SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE", "SIGABRT", "SIGTRAP")
# Exit statuses on Windows of what elsewhere is SIGSEGV, SIGILL and SIGABRT.
_FATAL_STATUS = {0xC0000005: "access violation", 0xC000001D: "illegal instruction", 3: "abort"}


@dataclass(frozen=True)
class Verdict:
    """The result of the check."""

    can_repack: bool = True
    """Whether llama.cpp works with extra buffers."""
    can_run: bool = True
    """Whether llama.cpp works at all."""
    fault: str = ""
    """How it crashed: SIGSEGV, SIGILL, ...; empty if it did not."""
    unchecked: str = ""
    """Why the check did not run; empty if it did."""


def check(on_notice: Callable[[str], None] = lambda _: None) -> Verdict:
    """The verdict for the installed llama.cpp on this CPU; the check runs if none is cached.

    If it then finds that only extra buffers crash, `on_notice` gets a line about it. Raises
    EngineError if FRANKEN_GGUF_EXTRA_BUFFERS is neither on nor off.
    """
    if forced := os.environ.get(VARIABLE):
        if forced not in ("on", "off"):
            raise EngineError(f"{VARIABLE}={printable(forced)}: give on or off")
        return Verdict(can_repack=forced == "on", unchecked=f"{VARIABLE}={forced}")
    record = record_path()
    if cached := _read(record):
        return cached
    verdict = _run_check()
    if not verdict.unchecked:
        _write(record, verdict)
    if verdict.can_run and not verdict.can_repack:
        on_notice(
            f"llama.cpp crashes here with repacked weights ({verdict.fault}): models are loaded "
            "without, which slows down prompts; 'franken-gguf doctor' shows how to fix it"
        )
    return verdict


def _run_check() -> Verdict:
    """Run TRIAL with a tiny model; if it crashes, once more without extra buffers."""
    fault = ""
    try:
        with TemporaryDirectory(prefix="franken-gguf-", ignore_cleanup_errors=True) as folder:
            model = Path(folder) / "tiny.gguf"
            write_tiny_model(model)
            fault = _crash([*TRIAL, str(model), "extra"], folder)
            can_run = not fault or not _crash([*TRIAL, str(model)], folder)
    except (OSError, subprocess.SubprocessError, _TrialError) as error:
        return Verdict(can_repack=not fault, fault=fault, unchecked=printable(str(error)))
    return Verdict(can_repack=not fault, can_run=can_run, fault=fault)


def record_path(cpuinfo: Path = CPUINFO) -> Path:
    """The file that caches the verdict for this build on this CPU."""
    key = hashlib.sha256(repr((build(), cpu(cpuinfo))).encode()).hexdigest()[:24]
    return user_cache_path("franken-gguf", appauthor=False) / "cpu-check" / f"{key}.json"


def build() -> tuple[object, ...]:
    """Identifies the installed llama.cpp: its version, and its library files' sizes and times."""
    files = [(path.name, path.stat()) for path in libraries()]
    return version("llama-cpp-python"), *((n, s.st_size, s.st_mtime_ns) for n, s in files)


def libraries() -> list[Path]:
    """The library files of the installed llama.cpp, found without loading it."""
    if folder := os.environ.get("LLAMA_CPP_LIB_PATH"):
        return sorted(Path(folder).glob("*"))
    found = find_spec("llama_cpp")
    folders = (found.submodule_search_locations if found else None) or ()
    return sorted(path for folder in folders for path in (Path(folder) / "lib").glob("*"))


def cpu(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Identifies the CPU: on Linux by its name and flags."""
    try:
        first = cpuinfo.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return platform.machine(), platform.processor()
    lines = (line.partition(":") for line in first.splitlines())
    named = {key.strip(): value.strip() for key, _, value in lines}
    return tuple(named.get(key, "") for key in _CPUINFO_KEYS)


def rebuild() -> str:
    """The command that recompiles llama-cpp-python for this CPU, without AMX."""
    has_amx = any("amx_tile" in part.split() for part in cpu())
    system = platform.system()
    return rebuild_command(
        installer(Path(sys.prefix), sys.executable, system),
        system,
        has_amx,
        [path.name for path in libraries()],
    )


class _TrialError(Exception):
    """A trial failed in another way than by a crash."""


def _crash(command: list[str], folder: str) -> str:
    """How a trial crashed; empty if it succeeded.

    Raises _TrialError, OSError, TimeoutExpired.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        # Otherwise ggml starts a debugger to print a backtrace.
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if not done.returncode:
        return ""
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        if name in _FATAL_SIGNALS:
            return name
        raise _TrialError(f"the check was ended by signal {name}")
    if sys.platform == "win32" and done.returncode in _FATAL_STATUS:
        return _FATAL_STATUS[done.returncode]
    last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise _TrialError(last or f"the check ended with status {done.returncode}")


def _read(path: Path) -> Verdict | None:
    """The verdict cached at `path`; None if there is none or it is invalid."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_RECORD_BYTES))
        verdict = Verdict(**document)
        kinds = [type(value) for value in asdict(verdict).values()]
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    is_valid = kinds == [bool, bool, str, str] and not verdict.unchecked
    return verdict if is_valid else None


def _write(path: Path, verdict: Verdict) -> None:
    """Cache the verdict; if that fails, the next load checks again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps(asdict(verdict)))
