"""A small process beside a program that uses the library: it reports if llama.cpp ends that.

It waits on a pipe whose other end the program holds. If that end closes without a goodbye while
llama.cpp is working, the flight record has the model and what it was doing. Which signal ended the
program only its parent can know.
"""

from __future__ import annotations

import atexit
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from typing import IO

from .crash_line import end
from .flight_recorder import HEADER_BYTES, read, recorder

_GOODBYE = b"."


@cache
def watch() -> None:
    """Start a watcher for this process, once, if the platform allows it.

    A process forked from this one later is not watched.
    """
    if recorder.is_read or os.name == "nt" or not sys.executable or getattr(sys, "frozen", False):
        return
    with suppress(OSError), tempfile.TemporaryFile() as record:
        record.truncate(HEADER_BYTES)
        memory = mmap.mmap(record.fileno(), HEADER_BYTES)
        process = _start(record)
        recorder.share(memory)
        atexit.register(_leave, process)
        os.register_at_fork(after_in_child=lambda: _forget(process))


def _start(record: IO[bytes]) -> subprocess.Popen[bytes]:
    # -I ignores the current folder and the environment; our own sys.path is passed on.
    run = "from franken_gguf.runner.crash import watcher; watcher.main(sys.argv[1])"
    code = f"import sys; sys.path[:] = sys.argv[2:]; {run}"
    number = record.fileno()
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(number), *filter(None, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(number,),
    )


def _leave(process: subprocess.Popen[bytes]) -> None:
    if process.stdin and not process.stdin.closed:
        with suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(_GOODBYE, timeout=1)
        recorder.leave()


def _forget(process: subprocess.Popen[bytes]) -> None:
    """In a forked process: leave the pipe and the record to the parent."""
    assert process.stdin is not None
    process.stdin.close()
    process.returncode = 0  # not this process's child: do not wait for it
    recorder.leave()
    watch.cache_clear()


def main(record: str) -> None:
    """Wait for the program's end; `record` is the file descriptor of the flight record."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.read(0, 1) == _GOODBYE:
        os._exit(0)  # the program waits for it
    flight = read(os.pread(int(record), HEADER_BYTES, 0))
    if flight.doing:
        with suppress(OSError):
            os.write(2, f"Error: {flight.model}: {end(flight)}\n".encode())
