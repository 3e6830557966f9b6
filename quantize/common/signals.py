"""Delay signal handlers while code runs that they must not interrupt."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

# Windows has no SIGHUP.
ENDINGS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals on which the program exits cleanly: asked to terminate, or its terminal closed."""


@contextmanager
def signals_held(
    arrived: threading.Event | None = None, on_arrival: Callable[[], None] | None = None
) -> Iterator[None]:
    """Handlers of signals that arrive in this block run at its end.

    For code that a handler's exception must not pass through: llama.cpp's callbacks, where ctypes
    prints and discards it, and an event loop, which would report it as its own failure. So that
    the work can stop early, `arrived` is set while a signal waits, and `on_arrival` is called when
    one arrives. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only
        return
    held: list[tuple[int, FrameType | None]] = []
    holding = True

    def hold(number: int, frame: FrameType | None) -> None:
        if not holding:  # arrived while the handlers are being restored
            handlers[number](number, frame)
            return
        held.append((number, frame))
        if arrived:
            arrived.set()
        if on_arrival:
            on_arrival()

    installed = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDINGS)}
    handlers = {number: handler for number, handler in installed.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, hold)
        yield
    finally:
        holding = False
        with ExitStack() as at_end:  # runs last to first, and all of them even if one raises
            for signal_and_frame in held:
                at_end.callback(hold, *signal_and_frame)
            for number, handler in handlers.items():
                at_end.callback(signal.signal, number, handler)
            if arrived:
                arrived.clear()
