"""Run work in several processes: numpy's calls are too short for threads under one GIL."""

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

from .blas import one_blas_thread
from .errors import WorkerError
from .signals import signals_held

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items submitted per worker: enough that none is idle while the oldest is still running.
_AHEAD = 6

_work: Callable[[Any], Any]


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """work(item) for each item, in the order of the items; `work` is pickled once per process.

    With one worker, everything runs in this process; in each of several, matrix products take one
    thread. After an error no new item is started. Raises what `work` raises, and WorkerError if a
    process was killed. A script that uses several workers needs the usual
    `if __name__ == "__main__":`.
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
            "fewer --threads or a smaller --max-memory to resume"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(work: Callable[[Any], Any]) -> None:
    global _work  # noqa: PLW0603 - set once per process, used by every _do
    _work = work
    # Ctrl-C reaches every process of the terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    one_blas_thread()  # the other processors have workers of their own
    threading.Thread(target=end_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Have the C library reuse freed memory for the next item instead of requesting new pages.

    glibc returns blocks above a threshold to the system at once. Freeing a larger block raises the
    threshold, to 32 MiB at most; this one is never touched.
    """
    np.empty((32 << 20) - (64 << 10), np.uint8)


def end_with_parent() -> None:
    """Exit when the parent process does: if it was killed, the results are not needed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(item: Any) -> Any:
    return _work(item)


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Processes started in this block never see Ctrl-C; this process handles it after the block."""
    with signals_held():  # so that no process is left half started
        if not hasattr(signal, "pthread_sigmask"):
            yield
            return
        # A new process inherits the signal mask of the thread that starts it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
