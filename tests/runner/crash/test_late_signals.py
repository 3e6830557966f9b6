"""Ctrl-C while the interpreter ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_CHILD = """
import os, signal, sys
from franken_gguf.runner.cli import endings_raise

class Late:
    def __del__(self):
        self.kill(self.pid, self.number)  # after Python restored the default handlers

late = Late()
late.kill, late.pid, late.number = os.kill, os.getpid(), int(sys.argv[1])
endings_raise()
sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_interpreter_ends_does_not_change_the_exit_status(
    number: signal.Signals,
) -> None:
    command = [sys.executable, "-c", _CHILD, str(int(number))]
    assert subprocess.run(command, check=False).returncode == 3
