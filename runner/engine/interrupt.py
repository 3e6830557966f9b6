"""Ctrl-C and the keyboard while the model works."""

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
    """A load or an evaluation ended early because the engine's `stop` was set."""


@contextmanager
def ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop`, which the engine polls: an exception cannot cross llama.cpp's frames."""

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
    """Ctrl-C raises KeyboardInterrupt, as Python does by default."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def hiding_keys() -> Iterator[None]:
    """Keys typed meanwhile are not echoed into the answer; the next input line gets them."""
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
