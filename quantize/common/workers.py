"""Work spread over processes: numpy's calls are too short for threads that share an interpreter."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from .errors import WorkerError
from .signals import signals_held

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items that are under way for each worker: enough that none waits while the first is still busy.
_AHEAD = 6

_work: Callable[[Any], Any]


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """work(item) for each item, in their order; `work` is sent once to each of `workers` processes.

    One worker is this process itself. None starts a new item after an error. Raises what `work`
    does, and WorkerError where a process was killed. A script that asks for several workers needs
    the usual `if __name__ == "__main__":`.
    """
    if workers == 1:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(work,)
    )
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            with ctrl_c_held_back():
                pending.append(pool.submit(_do, item))
            if len(pending) >= _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process was killed, most likely because memory ran out; rerun with "
            "fewer --threads or less --max-memory to resume"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(work: Callable[[Any], Any]) -> None:
    global _work  # noqa: PLW0603 - what an initializer leaves for the calls that follow it
    _work = work
    # Ctrl-C reaches every process of a terminal; the parent decides what comes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    threading.Thread(target=end_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next item, instead of asking for pages anew.

    glibc gives memory above a threshold back at once, and raises the threshold, to 32 MiB at most,
    when a larger block is freed: this one, which is never touched.
    """
    np.empty((32 << 20) - (64 << 10), np.uint8)


def end_with_parent() -> None:
    """End with the parent process: if it was killed, the work has no reader."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(item: Any) -> Any:
    return _work(item)


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Processes that start in here are deaf to Ctrl-C from their first moment; ours comes after."""
    with signals_held():  # and does not leave one half started
        if not hasattr(signal, "pthread_sigmask"):
            yield
            return
        # What a process starts with is the mask of the thread that starts it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
