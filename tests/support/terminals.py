"""The command run as people run it: at a pseudo-terminal, with keys that arrive while it works."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import resource
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

COMMAND = [str(Path(sys.executable).with_name("franken-gguf"))]
# Ctrl-C goes to the processes whose controlling terminal it is typed at.
_AT_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)

CTRL_C, CTRL_D, CTRL_U, CTRL_Z, ENTER = "\x03", "\x04", "\x15", "\x1a", "\r"
TAB, UP = "\t", "\x1b[A"
ALT_ENTER = "\x1b\r"
_STEERING = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\r\b]")
PATIENCE = 30.0  # seconds; the machine may be busy, and a failure is no slower than its cause


def _environment() -> dict[str, str]:
    """Ours, without the size of our own terminal: pytest's readline leaves it there."""
    return {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """franken-gguf, or another `command`, with `arguments` at a terminal of its own.

    `screen` is all that it was sent, `text` the same without what steers a terminal.
    """

    def __init__(
        self,
        *arguments: str,
        command: Sequence[str] = COMMAND,
        columns: int = 200,
        **variables: str,
    ) -> None:
        self.screen = ""
        self._seen = 0
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.first_modes = self.modes()
        self._child = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, *command, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**_environment(), "TERM": "xterm", **variables},
        )
        os.close(theirs)

    @property
    def text(self) -> str:
        return _STEERING.sub("", self.screen)

    @property
    def pid(self) -> int:
        return self._child.pid

    def modes(self) -> list[Any]:
        """What a terminal does with keys and output, as termios has it."""
        return termios.tcgetattr(self._ours)

    def resize(self, columns: int) -> None:
        """Change the width, as a window does, while the program works."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """What was shown since the last wait, up to the first match of `pattern`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.text
            found = re.search(pattern, text[self._seen :])
            if found:
                start, self._seen = self._seen, self._seen + found.end()
                return text[start : self._seen]
            if time.monotonic() > deadline or not self._read():
                raise AssertionError(f"{pattern!r} did not come after {text[self._seen :]!r}")

    def at_prompt(self, keys: str) -> None:
        """Type `keys` once the program asks for them (a Ctrl-D that comes sooner is lost)."""
        self.wait_for(r"(?m)^> ?\Z")
        self.type(keys)

    def leave(self, keys: str) -> int:
        """Type `keys` at the prompt, wait for the program's end, give its exit status."""
        self.at_prompt(keys)
        return self.ended()

    def end(self) -> int:
        """Send SIGTERM, wait for the program's end, give its exit status."""
        self._child.terminate()
        return self.ended()

    def kill(self) -> None:
        """End the program where it is: SIGKILL."""
        self._child.kill()
        self._child.wait()

    def limit_files(self, nbytes: int) -> None:
        """Let the program write no file beyond this many bytes, which fails as on a full disk."""
        processes = [psutil.Process(self._child.pid)]
        processes += processes[0].children(recursive=True)  # the supervisor's child does the work
        for process in processes:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))

    def hang_up(self) -> int:
        """Close the terminal, as a window or an ssh connection does; the program's exit status."""
        os.close(self._ours)
        self._ours = os.open(os.devnull, os.O_RDWR)
        return self._child.wait(PATIENCE)

    def ended(self) -> int:
        """Wait for the program's end, give its exit status."""
        while self._read():
            pass
        return self._child.wait(PATIENCE)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # Linux's way to say that nobody is at the other end
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        os.close(self._ours)
