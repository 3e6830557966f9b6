"""A program that uses the library: if llama.cpp ends it, one line reports that, else nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from support.models import ROOT, smollm2

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows hands no files to a child")

PROGRAM = """
import os, signal, sys
sys.path.append({tests!r})
from support import crashing
from franken_gguf.runner import LoadOptions, load
{before}
with load({model!r}, LoadOptions(n_ctx=256, n_threads=1), max_tokens=8) as chat:
{body}
{after}
"""
ASK = "chat.ask('Hello').read()"
DOCTOR = "'franken-gguf doctor' checks this machine"
ENDED = "the program ended while llama.cpp was"


def run(
    *body: str, before: str = "", after: str = "", crash: str = ""
) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(
        tests=str(ROOT / "tests"),
        model=str(smollm2()),
        before="crashing.arm()" if crash else before,
        body="\n".join(f"    {line}" for line in body),
        after=after,
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CRASH": crash},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("crash", "status", "line"),
    [
        ("llama_model_load_from_file 1 SEGV", -11, f"{ENDED} loading the model"),
        (
            "llama_decode 1 ABRT",
            -6,
            "llama.cpp crashed (ggml.c:1: GGML_ASSERT(a < b) failed) while reading the prompt",
        ),
        ("llama_decode 5 KILL", -9, f"{ENDED} answering"),
    ],
)
def test_a_program_that_llama_cpp_ends_leaves_one_line(crash: str, status: int, line: str) -> None:
    result = run(ASK, crash=crash)
    assert result.returncode == status
    assert result.stderr == f"Error: {smollm2()}: {line}; {DOCTOR}\n"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([ASK], 0),
        ([ASK, "sys.exit(3)"], 3),
        ([ASK, "os._exit(4)"], 4),
        ([ASK, "os.kill(os.getpid(), signal.SIGTERM)"], -15),
        ([ASK, "os.kill(os.getpid(), signal.SIGKILL)"], -9),
    ],
)
def test_a_program_that_ends_otherwise_leaves_none(body: list[str], status: int) -> None:
    result = run(*body)
    assert (result.returncode, result.stderr) == (status, "")


def test_an_exception_amid_an_answer_is_all_that_is_shown() -> None:
    result = run("for piece in chat.ask('Hello'):", "    1 / 0")
    assert result.returncode == 1
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "doctor" not in result.stderr


def test_a_fork_of_the_program_is_not_watched_and_the_program_still_is() -> None:
    fork = "child = os.fork()"
    killed = "child or os.kill(os.getpid(), signal.SIGKILL)"
    result = run("answer = iter(chat.ask('Hello'))", "next(answer)", fork, killed, "os.wait()", ASK)
    assert (result.returncode, result.stderr) == (0, "")
    crash = "os.wait(); next(answer); os.kill(os.getpid(), signal.SIGKILL)"
    left = "child or os._exit(0)"
    result = run("answer = iter(chat.ask('Hello'))", "next(answer)", fork, left, crash)
    assert result.returncode == -9
    assert result.stderr == f"Error: {smollm2()}: {ENDED} answering; {DOCTOR}\n"


def test_the_watcher_is_one_and_ends_with_its_program() -> None:
    count = "print(*(one.pid for one in ours if 'watcher' in str(one.cmdline())))"
    another = f"with load({str(smollm2())!r}): ours = psutil.Process().children(); {count}"
    result = run("import psutil", another)
    (pid,) = result.stdout.split()
    assert not psutil.pid_exists(int(pid))
    assert result.stderr == ""
