"""The command's first process: starts the one that works, waits, and reports if it dies.

llama.cpp can end its process without a message, and no handler can catch SIGKILL. So the command
forks before anything large is imported; both processes stay in the terminal's foreground.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

from franken_gguf.runner.cli import endings_raise
from franken_gguf.runner.cli import main as command_line
from franken_gguf.runner.crash.crash_line import death
from franken_gguf.runner.crash.flight_recorder import Flight, read, recorder
from franken_gguf.runner.terminal.text import printable

if sys.platform != "win32":
    import termios

# A session file is 32 MiB at most. Only pages that are written take memory.
_RECORD_BYTES = 1 << 26
# Our messages recommend `doctor`, so it stays simple; a `worker`'s caller can kill it directly.
_UNSUPERVISED = ("doctor", "worker")


def main() -> None:
    """Run the command line, in a child process if the platform can fork."""
    verb = next(iter(sys.argv[1:]), "-")
    if hasattr(os, "fork") and verb not in _UNSUPERVISED and not verb.startswith("-"):
        _supervise()
    endings_raise()
    command_line()


def _supervise() -> None:
    """Return in a new process; this one ends as that one does.

    If the system refuses memory or a process, return in this one.
    """
    terminal = _Terminal()
    awaited = {signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    # An ignored SIGCHLD is never delivered; macOS treats one without a handler as ignored.
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        memory, (alive, held), child = mmap.mmap(-1, _RECORD_BYTES), os.pipe(), os.fork()
    except OSError:
        pass
    else:
        if child:
            os.close(alive)
            _end_as(*_wait(child, awaited), memory, terminal)
        os.close(held)
        _end_with_parent(alive)
        recorder.share(memory)
        # Keep ggml's backtraces of every thread off the screen; a core dump has them.
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    signal.signal(signal.SIGCHLD, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent(alive: int) -> None:
    """Kill this process when the first one ends, which holds the other end of the pipe `alive`."""

    def wait() -> None:
        os.read(alive, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    # The thread inherits this mask: all signals must go to the main thread.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(child: int, awaited: set[signal.Signals]) -> tuple[int, set[int]]:
    """The child's exit status, and the signals that arrived before.

    Signals sent to this process are passed on; those of a key the terminal sends to the child too.
    """
    received: set[int] = set()
    while True:
        number, is_typed = _next_signal(awaited)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, received
            continue  # the child was stopped, not ended
        received.add(number)
        if not is_typed:
            os.kill(child, number)


def _next_signal(awaited: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether a key sent it."""
    keys = (signal.SIGINT, signal.SIGQUIT)
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(awaited)
        # si_code is positive if the kernel sent it, and then to all processes in the foreground.
        return info.si_signo, info.si_signo in keys and info.si_code > 0
    number = signal.sigwait(awaited)  # macOS does not report the sender
    return number, number in keys and _Terminal().is_ours()


def _end_as(status: int, received: set[int], memory: Any, terminal: _Terminal) -> NoReturn:
    """Exit like the child: with its status, or by its signal after a message about it."""
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number, flight = os.WTERMSIG(status), read(memory)
    terminal.restore()
    saved = _save(flight)
    if number in received:  # the child was asked to end
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # a container's first process is immune to it
    subject = f"{flight.model}: " if flight.model else ""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"Error: {subject}{death(flight, number)}{saved}\n".encode())
    os._exit(128 + number)


def _save(flight: Flight) -> str:
    """Save the recorded session, if any; return the end of the error message about it."""
    if flight.path is None:
        return ""
    from franken_gguf.runner.conversation.session import Session, replacing  # noqa: PLC0415 - 0.1 s
    from franken_gguf.runner.conversation.session_format import SessionError  # noqa: PLC0415 - 0.1 s

    try:
        with Session(flight.path.parent, flight.path.stem), replacing(flight.path) as part:
            part.write_bytes(flight.content)
    except SessionError as error:
        return f"; the chat is not saved: {printable(str(error))}"
    except OSError as error:
        return f"; the chat is not saved: {printable(f'{flight.path}: {error.strerror}')}"
    return f"; the chat is saved as {printable(flight.path.stem)!r}"


class _Terminal:
    """The terminal's modes at the start."""

    def __init__(self) -> None:
        self._fd = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
        self._modes = None
        with suppress(termios.error):  # it may be gone already
            self._modes = None if self._fd is None else termios.tcgetattr(self._fd)

    def is_ours(self) -> bool:
        """Whether this process is in the terminal's foreground."""
        try:
            return self._fd is not None and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # gone
            return False

    def restore(self) -> None:
        """Undo what a dead process left behind: raw modes, a hidden cursor, an unfinished line."""
        if self._fd is None or self._modes is None or not self.is_ours():
            return
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a shell can take the foreground meanwhile
        with suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        can_steer = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        for fd in (1, 2):
            if os.isatty(fd):
                with suppress(OSError):
                    # Default colours, a visible cursor, no bracketed paste.
                    os.write(fd, b"\x1b[0m\x1b[?25h\x1b[?2004l\n" if can_steer else b"\n")
                return
