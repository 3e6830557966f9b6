"""Run a command and measure wall time, CPU time and peak memory of all its processes."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import psutil

_INTERVAL = 0.02


@dataclass(frozen=True)
class Run:
    """One finished command."""

    seconds: float
    cpu_seconds: float
    """Of all its processes together: what is left of a figure on a machine that others use."""
    peak_mib: float
    """Resident memory of the process and its children, added up, at its highest."""


def run(command: list[str]) -> Run:
    """Run `command` silently; exits if it fails."""
    with tempfile.TemporaryFile() as errors:
        started, used = time.perf_counter(), _cpu_seconds()
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(process))
            time.sleep(_INTERVAL)
        seconds = time.perf_counter() - started
        if process.returncode:
            errors.seek(0)
            text = errors.read()[-2000:].decode(errors="replace")
            sys.exit(f"{' '.join(command)}\nfailed:\n{text}")
    return Run(seconds, _cpu_seconds() - used, peak / (1 << 20))


def _cpu_seconds() -> float:
    """Of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def fastest(command: list[str], repeat: int) -> Run:
    """The fastest of `repeat` runs."""
    return min((run(command) for _ in range(repeat)), key=lambda one: one.seconds)


def _resident(process: psutil.Popen) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:  # one ended meanwhile: the next look is complete again
        return 0
    return total
