"""What Ctrl-C does: an event for the engine to hear, or Python's exception where a line is read."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def hearing_ctrl_c(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop` here, for the engine to hear: an exception cannot cross llama.cpp."""

    def on_interrupt(_: int, __: FrameType | None) -> None:
        stop.set()

    stop.clear()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def raising_ctrl_c() -> Iterator[None]:
    """Ctrl-C is Python's KeyboardInterrupt here, as where a line is read."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
