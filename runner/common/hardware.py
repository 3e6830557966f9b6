"""Memory and cores of this machine, without llama.cpp."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

if sys.platform != "win32":
    import resource

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 2, and version 1, which has a folder for each controller: the limit, the usage, and the
# page cache included in it, which the kernel frees on demand.
_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_V1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def available_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Bytes of RAM that are available now; page cache counts as free.

    On Linux the limits of all control groups (version 2 or 1) of this process apply: a container's,
    a systemd slice's. They are mounted under `cgroup`; `membership` names them.
    """
    available = int(psutil.virtual_memory().available)
    for folder, (limit, usage, cache_keys) in _groups(cgroup, membership):
        try:
            allowed = int((folder / limit).read_text())
            used = int((folder / usage).read_text())
            pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
            cache = sum(int(pair[1]) for pair in pairs if pair[0] in cache_keys)
        except (OSError, ValueError, IndexError):
            continue  # not this version, or no limit ("max")
        available = min(available, max(0, allowed - used + cache))
    return available


def total_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """Bytes of RAM of this machine, or the limit of this process's control groups if lower."""
    total = int(psutil.virtual_memory().total)
    for folder, (limit, *_) in _groups(cgroup, membership):
        with suppress(OSError, ValueError):
            total = min(total, int((folder / limit).read_text()))
    return total


def _groups(
    cgroup: Path, membership: Path
) -> Iterator[tuple[Path, tuple[str, str, tuple[str, str]]]]:
    """The folders of this process's control groups with the names of their files.

    A limit applies to all groups below, so parent groups are included. In a container, which sees
    its own group as the root, the path can be the host's and not exist.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    paths = {"": "/", "memory": "/"}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    for root, version, path in (
        (cgroup, _V2, paths[""]),
        (cgroup / "unified", _V2, paths[""]),
        (cgroup / "memory", _V1, paths["memory"]),
    ):
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            if ".." not in folder.parts:
                yield root / folder, version


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def default_threads() -> int:
    """The physical cores that this process may use: llama.cpp gains nothing from more threads."""
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        physical = min(physical, len(os.sched_getaffinity(0)))
    return physical


def cores() -> int:
    """The number of logical cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
