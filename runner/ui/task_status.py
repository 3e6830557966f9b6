"""The status of one task that takes a while: a line that changes, or one every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from .convert_screen import say

# Seconds between two lines if there is no terminal on which a line can change.
_QUIET_INTERVAL = 10.0


@contextmanager
def working(notices: Console, task: str) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows progress; the display ends with the `with` block."""
    if notices.is_terminal:
        with notices.status(task) as status:
            yield status.update
    else:
        say(notices, task)
        yield _lines(notices)


def _lines(notices: Console) -> Callable[[str], None]:
    shown = time.monotonic()

    def show(line: str) -> None:
        nonlocal shown
        if time.monotonic() >= shown + _QUIET_INTERVAL:
            shown = time.monotonic()
            say(notices, line)

    return show
