"""Work in a separate process, which frees its memory at the end and can crash on its own.

llama.cpp aborts the process on errors it does not handle; the comparison continues with the other
models.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.common.workers import ctrl_c_held_back, end_with_parent
from franken_gguf.runner.crash.crash_line import death
from franken_gguf.runner.crash.flight_recorder import HEADER_BYTES, read, recorder

from .tasks import CompareError

Work = TypeVar("Work")
Send = Callable[[Any], None]


@dataclass(frozen=True)
class _Failure:
    """The last message of a process that failed with an expected error."""

    reason: str


@dataclass(frozen=True)
class _Bug:
    """The last message of a process that failed with an unexpected error."""

    traceback: str


def messages(work: Callable[[Work, Send], None], argument: Work, name: str) -> Iterator[Any]:
    """Run `work(argument, send)` in another process and yield what it sends.

    The process ends with this one and is killed when the iterator is closed. Raises CompareError
    with the error of the process, or with `name` and the way it died.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    flight = spawn.RawArray("B", HEADER_BYTES)
    process = spawn.Process(target=_main, args=(work, argument, there, flight), daemon=True)
    with ctrl_c_held_back():
        process.start()
    there.close()
    try:
        yield from _received(here)
        process.join()
        if process.exitcode:
            raise CompareError(f"{name}: {_end(process.exitcode, flight)}")
    finally:
        process.kill()
        process.join()
        here.close()


def _received(connection: Connection) -> Iterator[Any]:
    while True:
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            return
        if isinstance(message, _Failure):
            raise CompareError(message.reason)
        if isinstance(message, _Bug):
            raise RuntimeError(message.traceback)
        yield message


def _end(exitcode: int, flight: Any) -> str:
    if exitcode > 0:
        return f"its process ended with status {exitcode}"
    return death(read(flight), -exitcode)


def _main(
    work: Callable[[Work, Send], None], argument: Work, connection: Connection, flight: Any
) -> None:
    # Ctrl-C reaches every process of a terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    recorder.share(flight)
    # Hides what llama.cpp writes before it aborts.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    try:
        work(argument, connection.send)
    except FrankenError as error:
        connection.send(_Failure(str(error)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        connection.send(_Failure(f"{where}{error.strerror or error}"))
    except Exception:
        connection.send(_Bug(traceback.format_exc()))
