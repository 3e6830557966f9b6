"""The command's first process: it starts the one that works, waits, and speaks for it if it dies.

llama.cpp can end its process without a word, and no handler in that process sees a SIGKILL. So the
command forks before anything large is imported; both processes stay in the terminal's foreground.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

from franken_gguf.runner.crash.flight_recorder import Flight, read, recorder

if sys.platform != "win32":
    import termios

# A session file is 32 MiB at most. Only what is written to takes memory.
_RECORD_BYTES = 1 << 26
# `doctor` is what we point to, and a `worker` is to be killed by whoever started it.
_ALONE = ("doctor", "worker")


def main() -> None:
    """Run the command line, in a process of its own where the platform can fork."""
    verb = next(iter(sys.argv[1:]), "-")
    if hasattr(os, "fork") and verb not in _ALONE and not verb.startswith("-"):
        _supervise()
    from franken_gguf.runner.cli import main as command_line  # noqa: PLC0415 - the first process stays small

    command_line()


def _supervise() -> None:
    """Return in a new process; this one ends as that one does.

    Where there is no memory or process to be had, return in this one.
    """
    terminal = _Terminal()
    heard = {signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    # An ignored SIGCHLD is never delivered; macOS takes one without a handler for ignored.
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        memory, (alive, held), child = mmap.mmap(-1, _RECORD_BYTES), os.pipe(), os.fork()
    except OSError:
        pass
    else:
        if child:
            os.close(alive)
            _end_as(*_wait(child, heard), memory, terminal)
        os.close(held)
        _end_with_parent(alive)
        recorder.share(memory)
        # Its trace of every thread is not for the screen; a core dump has it.
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    signal.signal(signal.SIGCHLD, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent(alive: int) -> None:
    """Be killed when the first process is: it holds the other end of the pipe `alive`."""

    def wait() -> None:
        os.read(alive, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    # All signals are blocked while the thread starts: it must take none from the main thread.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    threading.Thread(target=wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(child: int, heard: set[signal.Signals]) -> tuple[int, set[int]]:
    """The status that the child ends with, and the signals that came before.

    It gets those that were sent to us. What is typed at the terminal it has itself.
    """
    came: set[int] = set()
    while True:
        number, is_typed = _next_signal(heard)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status, came
            continue  # it was stopped
        came.add(number)
        if not is_typed:
            os.kill(child, number)


def _next_signal(heard: set[signal.Signals]) -> tuple[int, bool]:
    """The next signal, and whether it comes from a key."""
    keys = (signal.SIGINT, signal.SIGQUIT)
    if hasattr(signal, "sigwaitinfo"):
        info = signal.sigwaitinfo(heard)
        # Positive where the kernel sends it, and then to all processes in the foreground.
        return info.si_signo, info.si_signo in keys and info.si_code > 0
    number = signal.sigwait(heard)  # macOS does not tell who sent it
    return number, number in keys and _Terminal().is_ours()


def _end_as(status: int, came: set[int], memory: Any, terminal: _Terminal) -> NoReturn:
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    number, flight = os.WTERMSIG(status), read(memory)
    terminal.restore()
    saved = _save(flight)
    if number in came:  # it did as it was told
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # a container's first process is immune to it
    from franken_gguf.runner.crash.crash_line import death  # noqa: PLC0415 - seldom needed

    subject = f"{flight.model}: " if flight.model else ""
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"Error: {subject}{death(flight, number)}{saved}\n".encode())
    os._exit(128 + number)


def _save(flight: Flight) -> str:
    """Write the session as far as it came; what is said of that."""
    if flight.path is None:
        return ""
    from franken_gguf.runner.conversation.session import Session, replacing  # noqa: PLC0415 - seldom needed
    from franken_gguf.runner.conversation.session_format import SessionError  # noqa: PLC0415
    from franken_gguf.runner.terminal.text import printable  # noqa: PLC0415

    try:
        with Session(flight.path.parent, flight.path.stem), replacing(flight.path) as part:
            part.write_bytes(flight.content)
    except SessionError as error:
        return f"; the chat is not saved: {printable(str(error))}"
    except OSError as error:
        return f"; the chat is not saved: {printable(f'{flight.path}: {error.strerror}')}"
    return f"; the chat is saved as {printable(flight.path.stem)!r}"


class _Terminal:
    """The modes of our terminal as they were at the start."""

    def __init__(self) -> None:
        self._fd = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
        self._modes = None
        with suppress(termios.error):  # it may be gone already
            self._modes = None if self._fd is None else termios.tcgetattr(self._fd)

    def is_ours(self) -> bool:
        """Whether keys that are typed there are for this process."""
        try:
            return self._fd is not None and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # gone
            return False

    def restore(self) -> None:
        """Undo what a process that died left: raw modes, a hidden cursor, a line half written."""
        if self._fd is None or self._modes is None or not self.is_ours():
            return
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a shell may take it back meanwhile
        with suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        can_steer = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
        for fd in (1, 2):
            if os.isatty(fd):
                with suppress(OSError):
                    # Plain colours, the cursor shown, no bracketed paste.
                    os.write(fd, b"\x1b[0m\x1b[?25h\x1b[?2004l\n" if can_steer else b"\n")
                return
