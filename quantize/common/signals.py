"""Signals, and work that they may not interrupt just anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

# Windows has no SIGHUP.
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that end a program in good order: asked to, or its terminal is gone."""


@contextmanager
def signals_held(came: threading.Event | None = None) -> Iterator[None]:
    """The handlers of signals run at the end of this, not amid what an exception must not cross.

    Such as llama.cpp: Python runs a handler inside the next function that C code calls back, where
    ctypes prints what it raises and drops it. `came` is set while one waits, for the work to be
    cut short.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    held: list[tuple[int, FrameType | None]] = []
    holding = True

    def hold(number: int, frame: FrameType | None) -> None:
        if not holding:  # one that comes while the handlers are put back
            handlers[number](number, frame)
            return
        held.append((number, frame))
        if came:
            came.set()

    found = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDINGS)}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, hold)
        yield
    finally:
        holding = False
        with ExitStack() as at_end:  # whose last is done first, and all of it where some raises
            for signal_and_frame in held:
                at_end.callback(hold, *signal_and_frame)
            for number, handler in handlers.items():
                at_end.callback(signal.signal, number, handler)
            if came:
                came.clear()
