"""Work in a process of its own: what it says, and how it may end."""

from __future__ import annotations

import sys

import pytest

from franken_gguf.runner.compare.measure.subprocess_worker import messages
from franken_gguf.runner.compare.measure.tasks import CompareError
from support.endings import abort, be_killed, count, interrupt_parent, raise_bug, refuse


def test_what_the_work_sends_arrives_in_its_order() -> None:
    assert list(messages(count, 3, "counting")) == [0, 1, 2]


def test_an_error_of_the_work_is_raised_here_with_its_text() -> None:
    with pytest.raises(CompareError, match=r"^no such luck$"):
        list(messages(refuse, "no such luck", "x"))


def test_a_process_that_llama_cpp_aborts_leaves_ours_alive() -> None:
    found = messages(abort, None, "big.gguf")
    assert next(found) == "going to"
    with pytest.raises(CompareError, match=r"^big\.gguf: the program crashed \(SIGABRT\); 'fra"):
        next(found)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
def test_a_killed_process_is_reported_as_out_of_memory() -> None:
    with pytest.raises(CompareError, match=r"^big\.gguf: killed \(SIGKILL\), most likely bec"):
        list(messages(be_killed, None, "big.gguf"))


def test_a_bug_is_shown_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*ZeroDivisionError"):
        list(messages(raise_bug, 0, "x"))


def test_ctrl_c_while_a_process_starts_comes_once_it_has() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(messages(count, interrupt_parent(), "x"))
