"""What memory and cores there are; loads nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

if sys.platform != "win32":
    import resource

_CGROUP = Path("/sys/fs/cgroup")


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of RAM that can be taken now, page cache counted as free; a container's limit counts.

    Linux's control groups, version 2 or 1, are read under `cgroup` as a container sees them.
    """
    available = int(psutil.virtual_memory().available)
    for limit, usage, stat, cache_key in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            used = int((cgroup / usage).read_text())
            most = int((cgroup / limit).read_text())
            pairs = (line.split() for line in (cgroup / stat).read_text().splitlines())
            cache = int(next(pair[1] for pair in pairs if pair[0] == cache_key))
        except (OSError, ValueError, StopIteration, IndexError):
            continue  # no such version here, or no limit ("max")
        available = min(available, max(0, most - used + cache))
    return available


def total_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of RAM that there are, or that a container may have."""
    total = int(psutil.virtual_memory().total)
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            total = min(total, int((cgroup / limit).read_text()))
        except (OSError, ValueError):
            continue
    return total


def peak_memory() -> int:
    """Bytes of this process that were resident at most."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def default_threads() -> int:
    """One for each physical core that this process may use: llama.cpp gains nothing from more."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        physical = min(physical, len(os.sched_getaffinity(0)))
    return physical


def cores() -> int:
    """Logical cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
