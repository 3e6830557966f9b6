"""What other processes may do: all the ways that work can end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from franken_gguf.runner.compare.measure.tasks import CompareError

Send = Callable[[Any], None]


def count(numbers: int, send: Send) -> None:
    """Send numbers from 0."""
    for number in range(numbers):
        send(number)


def refuse(reason: str, _: Send) -> None:
    """Give up with a reason."""
    raise CompareError(reason)


def abort(_: None, send: Send) -> None:
    """End as llama.cpp does where it meets what it did not expect."""
    print("GGML_ASSERT: noise on standard error", file=sys.stderr)
    send("going to")
    os.abort()


def be_killed(_: None, __: Send) -> None:
    """End as a process does that the system takes for the one to blame when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def raise_bug(divisor: int, _: Send) -> None:
    """An error that nobody foresaw."""
    raise AssertionError(1 // divisor)


class InterruptingWhenPickled:
    """Sends this process a Ctrl-C while it is sent to another one."""

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        os.kill(os.getpid(), signal.SIGINT)
        return int, (10_000_000,)


def interrupt_parent() -> Any:
    """An argument for `count` whose sending is interrupted."""
    return InterruptingWhenPickled()
