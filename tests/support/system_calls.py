"""A forked child, stopped at every system call that changes a folder, and killed at one of them.

By ptrace, so that nothing of what the child runs is replaced or has to be known: a call counts
whether Python, a library or numpy makes it. For Linux on x86-64.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

IS_SUPPORTED = sys.platform == "linux" and platform.machine() == "x86_64"

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
# Calls are told from signals; what the child would start stops, and dies with this process.
_OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x100000
_ENTRY = 1

# Where in a call's arguments the file is: its handle, or its name and the folder's handle.
_BY_HANDLE = {
    1: "write", 18: "write", 20: "write", 40: "write", 296: "write", 326: "write", 328: "write",
    77: "truncate", 285: "truncate", 74: "fsync", 75: "fsync", 73: "flock",
}  # fmt: skip
_BY_NAME = {
    2: ("open", None, 0), 85: ("open", None, 0), 257: ("open", 0, 1), 437: ("open", 0, 1),
    76: ("truncate", None, 0), 82: ("rename", None, 0), 264: ("rename", 0, 1),
    316: ("rename", 0, 1), 87: ("unlink", None, 0), 263: ("unlink", 0, 1), 84: ("unlink", None, 0),
    83: ("mkdir", None, 0), 258: ("mkdir", 0, 1), 86: ("link", None, 1), 265: ("link", 2, 3),
    88: ("link", None, 1), 266: ("link", 1, 2),
}  # fmt: skip
_COPY_FILE_RANGE = 326
_OPEN_FLAGS = {2: 1, 257: 2}


class _CallInfo(ctypes.Structure):
    """struct ptrace_syscall_info as it is at a call's beginning."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


@dataclass(frozen=True)
class Step:
    """One call that changes a folder, or locks something in it."""

    call: str
    name: str
    """The file's; of a renamed one, that before. Empty for the folder itself."""


def steps_of(
    work: Callable[[], object],
    folder: Path,
    *,
    kill_at: int | None = None,
    between: Callable[[bool], None] = lambda is_before: None,
) -> list[Step]:
    """Run `work` in a child and list its steps in `folder`; SIGKILL comes before number `kill_at`.

    Steps count from 0; the one that is not made is the list's last. `between` is called before
    (with True) and after each step, while the child stands still. Raises AssertionError where the
    child fails, starts something that is not traced, or ends before it is killed.
    """
    pid = os.fork()
    if pid == 0:
        _be_traced(work)
    steps: list[Step] = []
    try:
        os.waitpid(pid, 0)
        _ptrace(_SETOPTIONS, pid, 0, _OPTIONS)
        while (info := _next_call(pid)) is not None:
            step = _step(pid, info, folder)
            if step is not None:
                between(True)
                steps.append(step)
                if len(steps) - 1 == kill_at:
                    return steps
            if _next_call(pid) is None:  # the call's end, or with it the child's
                break
            if step is not None:
                between(False)
    finally:
        with suppress(ProcessLookupError, ChildProcessError):  # it has ended
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert kill_at is None, f"the work ended after {len(steps)} steps"
    return steps


def _be_traced(work: Callable[[], object]) -> None:
    status = 1
    try:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        status = 0
    except BaseException:  # the fork must not go on with what this process does
        traceback.print_exc()
    finally:
        os._exit(status)


_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    arguments = ctypes.c_long(request), ctypes.c_long(pid)
    if _libc.ptrace(*arguments, ctypes.c_void_p(address), ctypes.c_void_p(data)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _next_call(pid: int) -> _CallInfo | None:
    """Let the child run to the beginning or end of a call; None at the child's own, good, end."""
    while True:
        _ptrace(_SYSCALL, pid)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the child failed"
            return None
        assert os.WIFSTOPPED(status), f"the child was killed by signal {os.WTERMSIG(status)}"
        assert status >> 16 == 0, "the child started a thread or a process, which is not traced"
        if os.WSTOPSIG(status) == signal.SIGTRAP | 0x80:
            info = _CallInfo()
            _ptrace(_GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
            return info


def _step(pid: int, info: _CallInfo, folder: Path) -> Step | None:
    assert info.op == _ENTRY
    number, arguments = info.number, info.arguments
    if number in _BY_HANDLE:
        call = _BY_HANDLE[number]
        path = _path_of(pid, arguments[2 if number == _COPY_FILE_RANGE else 0])
    elif number in _BY_NAME:
        call, at, where = _BY_NAME[number]
        flags = arguments[_OPEN_FLAGS[number]] if number in _OPEN_FLAGS else os.O_CREAT
        if call == "open" and not flags & (os.O_CREAT | os.O_TRUNC):
            return None
        base = "cwd" if at is None else _signed(arguments[at])
        path = os.path.join(  # noqa: PTH118 - what the child gave, whatever it is
            _path_of(pid, base), _text(pid, arguments[where])
        )
    else:
        return None
    inside = os.path.relpath(path, folder)
    if inside.startswith(".."):
        return None
    return Step(call, "" if inside == "." else inside)


def _signed(value: int) -> int | str:
    at_cwd = ctypes.c_int32(value & 0xFFFFFFFF).value == -100  # AT_FDCWD
    return "cwd" if at_cwd else value


def _path_of(pid: int, handle: int | str) -> str:
    where = handle if handle == "cwd" else f"fd/{handle}"
    return str(Path(f"/proc/{pid}/{where}").readlink())


def _text(pid: int, address: int) -> str:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        return os.fsdecode(memory.read(4096).split(b"\0")[0])
