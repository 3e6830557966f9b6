"""A real RPC worker on loopback, and engines in a process of their own that use it."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from support.models import rpc_library

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))


def rpc_environment() -> dict[str, str]:
    """This environment with the RPC backend in it."""
    return os.environ | {"GGML_BACKEND_PATH": str(rpc_library())}


@contextmanager
def worker(memory: int | None = None) -> Iterator[str]:
    """HOST:PORT of a `franken-gguf worker`; `memory`: bytes that it may take more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [COMMAND, "worker", "--port", str(port), "-t", "1"],
        # Each arena would reserve 64 MiB of addresses, which count towards the limit unused.
        env=rpc_environment() | {"MALLOC_ARENA_MAX": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_listening(port, process)
        if memory is not None:
            most = psutil.Process(process.pid).memory_info().vms + memory
            resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def wait_until_listening(port: int, process: subprocess.Popen[str]) -> None:
    """Until the worker takes connections. Raises AssertionError where it ends before."""
    for _ in range(200):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the worker does not listen")


def engines(jobs: list[dict[str, Any]], *endpoints: str) -> list[dict[str, Any]]:
    """What `engine_child.py` says of the jobs, with those workers' devices."""
    child = Path(__file__).with_name("engine_child.py")
    done = subprocess.run(
        [sys.executable, str(child), *endpoints],
        env=rpc_environment() if endpoints else None,
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return [result | {"workers": endpoints} for result in results]


def by_device(result: dict[str, Any], *holds: str) -> dict[str, int]:
    """Bytes that llama.cpp says it took on each device, of the buffers that hold such things."""
    # A buffer bears the number of the device on its worker: RPC0[127.0.0.1:50052].
    remote = {f"RPC0[{worker}]": f"RPC{n}" for n, worker in enumerate(result["workers"])}
    found: dict[str, int] = {}
    for buffer in result["buffers"]:
        if not holds or buffer["holds"] in holds:
            name = remote.get(buffer["device"]) or buffer["device"].split("_")[0]
            found[name] = found.get(name, 0) + buffer["nbytes"]
    return found


def planned(result: dict[str, Any], *kinds: str) -> dict[str, int]:
    """The same as the plan foresaw it."""
    return {
        device: sum(nbytes for kind, nbytes in used.items() if not kinds or kind in kinds)
        for device, used in result["plan"]["used"].items()
    }
