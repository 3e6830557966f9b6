"""Whether the installed llama.cpp runs on this CPU, tried once in a child process and remembered.

Beside the file's own layout llama.cpp keeps weights in extra buffers: repacked for wide
instructions, or for AMX, Intel's matrix unit. That code crashes on some machines (llama.cpp
#20824), and a build for another CPU crashes altogether. So before the first model is loaded, a
tiny one is, elsewhere; where it dies it is tried without extra buffers. What came of it is kept in
the platform's cache folder, under the build and the CPU that it holds for.

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
# What Windows calls SIGSEGV and SIGILL; an abort ends with status 3 there.
_FATAL_STATUS = {0xC0000005: "access violation", 0xC000001D: "illegal instruction", 3: "abort"}


@dataclass(frozen=True)
class Verdict:
    """What came of the check."""

    can_repack: bool = True
    """Whether models may have their weights in extra buffers."""
    can_run: bool = True
    """Whether llama.cpp runs at all."""
    fault: str = ""
    """How it crashed: SIGSEGV, SIGILL, ..."""
    unchecked: str = ""
    """Why there was no check."""


def check(on_notice: Callable[[str], None] = lambda _: None) -> Verdict:
    """The verdict for the installed llama.cpp on this CPU; the first time, it is made.

    `on_notice` is then told of a crash that models can be loaded without. Raises EngineError where
    FRANKEN_GGUF_EXTRA_BUFFERS is neither on nor off.
    """
    if forced := os.environ.get(VARIABLE):
        if forced not in ("on", "off"):
            raise EngineError(f"{VARIABLE}={printable(forced)}: give on or off")
        return Verdict(can_repack=forced == "on", unchecked=f"{VARIABLE}={forced}")
    record = record_path()
    if known := _read(record):
        return known
    verdict = _made()
    if not verdict.unchecked:
        _write(record, verdict)
    if verdict.can_run and not verdict.can_repack:
        on_notice(
            f"llama.cpp crashes here with repacked weights ({verdict.fault}): models are loaded "
            "without, which reads prompts more slowly; franken-gguf doctor shows what to do"
        )
    return verdict


def _made() -> Verdict:
    """Run TRIAL with a tiny model, and where it crashes once more without extra buffers."""
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
    """The file that remembers the verdict for this build on this CPU."""
    key = hashlib.sha256(repr((build(), cpu(cpuinfo))).encode()).hexdigest()[:24]
    return user_cache_path("franken-gguf", appauthor=False) / "cpu-check" / f"{key}.json"


def build() -> tuple[object, ...]:
    """What tells one installed llama.cpp from another: its version and its library files."""
    files = [(path.name, path.stat()) for path in libraries()]
    return version("llama-cpp-python"), *((n, s.st_size, s.st_mtime_ns) for n, s in files)


def libraries() -> list[Path]:
    """The library files of the installed llama.cpp, which is not loaded for this."""
    if folder := os.environ.get("LLAMA_CPP_LIB_PATH"):
        return sorted(Path(folder).glob("*"))
    found = find_spec("llama_cpp")
    folders = (found.submodule_search_locations if found else None) or ()
    return sorted(path for folder in folders for path in (Path(folder) / "lib").glob("*"))


def cpu(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """What tells one CPU from another: on Linux its name and flags."""
    try:
        first = cpuinfo.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return platform.machine(), platform.processor()
    lines = (line.partition(":") for line in first.splitlines())
    named = {key.strip(): value.strip() for key, _, value in lines}
    return tuple(named.get(key, "") for key in _CPUINFO_KEYS)


def rebuild() -> str:
    """The command that compiles llama-cpp-python anew for this CPU, without AMX."""
    has_amx = any("amx_tile" in part.split() for part in cpu())
    system = platform.system()
    return rebuild_command(
        installer(Path(sys.prefix), sys.executable, system),
        system,
        has_amx,
        [path.name for path in libraries()],
    )


class _TrialError(Exception):
    """A trial ended neither well nor by a crash."""


def _crash(command: list[str], folder: str) -> str:
    """How a trial crashed; empty where it ended well.

    Raises _TrialError, OSError, TimeoutExpired.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        # ggml would call a debugger for a backtrace.
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
    """The verdict that is kept there; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MAX_RECORD_BYTES))
        verdict = Verdict(**document)
        kinds = [type(value) for value in asdict(verdict).values()]
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    is_whole = kinds == [bool, bool, str, str] and not verdict.unchecked
    return verdict if is_whole else None


def _write(path: Path, verdict: Verdict) -> None:
    """Keep the verdict; where that cannot be, the next load checks again."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(verdict)))
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
