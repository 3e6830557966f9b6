"""The status of one task that takes a while: a line that changes, or a plain one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from .convert_screen import say


@contextmanager
def working(notices: Console, task: str) -> Iterator[Callable[[str], None]]:
    """Show progress: a line that is updated at a terminal, else a plain one."""
    if notices.is_terminal:
        with notices.status(task) as status:
            yield status.update
    else:
        say(notices, task)
        yield lambda _: None
