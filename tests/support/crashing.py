"""franken-gguf whose llama.cpp dies for real: CRASH names the function, its call and the signal.

For example "llama_decode 20 SEGV"; with "spawned" after it only in compare's own processes. Run it
as a script, or import it in a program that uses the library.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

COMMAND = [sys.executable, str(Path(__file__).resolve())]


def die(name: str) -> NoReturn:
    """By a read at address 0, llama.cpp's own abort, or what the system does for want of memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if name == "SEGV":
        ctypes.string_at(0)
    elif name == "ABRT":
        from llama_cpp import llama_cpp as lib  # noqa: PLC0415 - as in arm

        lib._lib.ggml_abort(b"ggml.c", 1, b"GGML_ASSERT(%s) failed", b"a < b")
    os.kill(os.getpid(), signal.Signals[f"SIG{name}"])
    raise AssertionError("still alive")


def arm() -> None:
    """Let the function that CRASH names die in that call of it."""
    from llama_cpp import llama_cpp as lib  # noqa: PLC0415 - not before the command forks

    function, count, name, *_ = os.environ["CRASH"].split()
    real, left = getattr(lib, function), int(count)

    def dying(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        return real(*arguments) if left else die(name)

    setattr(lib, function, dying)


if __name__ == "__main__":
    from franken_gguf.runner.cli.supervisor import main

    if not os.environ["CRASH"].endswith("spawned"):
        os.register_at_fork(after_in_child=arm)
    main()
elif __name__ == "__mp_main__":  # a process of compare's
    arm()
