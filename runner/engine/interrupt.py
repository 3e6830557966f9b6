"""Signals and the keyboard while the model works: what is heard, and when."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

if sys.platform != "win32":
    import termios


class Stopped(KeyboardInterrupt):
    """An engine's work ended early because its `stop` was set."""


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


@contextmanager
def hiding_keys() -> Iterator[None]:
    """What is typed here is not shown amid the answer; it waits for the next line."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    hidden = [*before]
    hidden[3] &= ~termios.ECHO  # the local modes
    termios.tcsetattr(sys.stdin, termios.TCSANOW, hidden)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
