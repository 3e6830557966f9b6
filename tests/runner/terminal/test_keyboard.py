"""The input line when a signal arrives while prompt_toolkit's event loop runs."""

from __future__ import annotations

import signal
import sys

import pytest

from support.terminals import CTRL_C, ENTER, Terminal

# A path and a function that send the process a signal when the event loop comes to use them.
_CHILD = """
import os, signal, sys
from franken_gguf.runner.cli import Terminated, endings_raise
from franken_gguf.runner.terminal.keyboard import Keyboard

place, number = sys.argv[1], int(sys.argv[2])

def interrupt(where):
    if where == place:
        os.kill(os.getpid(), number)

class History:
    def __fspath__(self):
        interrupt("history")
        return os.devnull

def is_whole(text):
    interrupt("enter")
    return True

endings_raise()
try:
    read = Keyboard(History(), lambda line: [], is_whole).read()
    print("read", read)
except Terminated as ended:
    print("ended by", ended.number)
except KeyboardInterrupt:
    print("interrupted")
"""


def prompt(place: str, number: int) -> Terminal:
    return Terminal(place, str(int(number)), command=[sys.executable, "-c", _CHILD])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_history_is_read_ends_the_prompt(number: signal.Signals) -> None:
    with prompt("history", number) as terminal:
        assert terminal.ended() == 0
        assert f"ended by {int(number)}" in terminal.text
        assert "Traceback" not in terminal.text
        assert "Unhandled" not in terminal.text
        assert terminal.modes() == terminal.first_modes


def test_a_signal_while_a_key_is_handled_ends_the_prompt() -> None:
    with prompt("enter", signal.SIGTERM) as terminal:
        terminal.at_prompt("hello" + ENTER)
        assert terminal.ended() == 0
        assert f"ended by {int(signal.SIGTERM)}" in terminal.text
        assert "Traceback" not in terminal.text


def test_ctrl_c_clears_the_line_and_on_an_empty_one_interrupts() -> None:
    with prompt("nowhere", signal.SIGTERM) as terminal:
        terminal.at_prompt("hello" + CTRL_C)
        terminal.type(CTRL_C)
        assert terminal.ended() == 0
        assert "interrupted" in terminal.text
