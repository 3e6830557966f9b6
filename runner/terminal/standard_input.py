"""Reads piped standard input within limits of size and time."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable

from franken_gguf.quantize.common.errors import FrankenError

MAX_PIPED_BYTES = 1 << 24
# Seconds. An idle pipe may never end, and with -p there is something to answer without it.
_PIPE_PATIENCE = 10.0


def has_keyboard() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def piped_text(notice: Callable[[str], None], *, has_prompt: bool) -> str:
    """All of standard input; empty if it is a terminal.

    If there is a prompt as well, a pipe without data is ignored after a notice and a wait.
    """
    if sys.stdin is None or has_keyboard():
        return ""
    if has_prompt and not _has_data(1.0):
        notice("waiting for standard input (< /dev/null for none)")
        if not _has_data(_PIPE_PATIENCE):
            notice("no data on standard input; continuing without it")
            return ""
    data = sys.stdin.buffer.read(MAX_PIPED_BYTES + 1)
    if len(data) > MAX_PIPED_BYTES:
        raise FrankenError(f"standard input holds more than {MAX_PIPED_BYTES >> 20} MiB")
    return clean(data.decode(errors="replace")).strip()


def _has_data(seconds: float) -> bool:
    if os.name == "nt":  # select knows only sockets there
        return True
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def clean(text: str) -> str:
    """`text` without lone surrogates, which stand for bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()
