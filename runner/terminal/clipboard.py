"""Copies text to the clipboard, by the desktop's own program or by the terminal (OSC 52)."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from contextlib import suppress

from franken_gguf.quantize.common.errors import FrankenError

_MAX_SEQUENCE = 100_000  # bytes of one OSC 52 sequence; tmux and xterm cut longer ones


class ClipboardError(FrankenError):
    """No clipboard is available."""


def copy(text: str) -> None:
    """Put `text` on the clipboard. Raises ClipboardError."""
    program = _program()
    if program:
        data = text.encode("utf-16" if program == ["clip"] else "utf-8")
        with suppress(subprocess.SubprocessError):
            subprocess.run(program, input=data, stderr=subprocess.DEVNULL, timeout=5, check=True)
            return
    sequence = b"\x1b]52;c;" + base64.b64encode(text.encode()) + b"\x07"
    if not sys.stdout.isatty() or len(sequence) > _MAX_SEQUENCE:
        raise ClipboardError(
            "no clipboard available: install wl-clipboard or xclip, or use /export"
        )
    os.write(sys.stdout.fileno(), sequence)


def _program() -> list[str]:
    """The clipboard command of this desktop; empty over ssh, where the desktop is elsewhere."""
    if os.environ.get("SSH_CONNECTION"):
        return []
    wanted = [["pbcopy"], ["clip"]] if sys.platform in ("darwin", "win32") else []
    if os.environ.get("WAYLAND_DISPLAY"):
        wanted.append(["wl-copy"])
    if os.environ.get("DISPLAY"):
        wanted += [["xclip", "-selection", "clipboard"], ["xsel", "-ib"]]
    return next((command for command in wanted if shutil.which(command[0])), [])
