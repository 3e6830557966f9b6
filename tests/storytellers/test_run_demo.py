"""The demo: its steps fit together, fail with the command's status, and offer the chat."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from run_demo import CHAT, FILES, STEPS, Step, offer_chat, run

from franken_gguf.runner.cli import main
from support.models import ROOT, dense_checkpoint


def test_the_files_that_one_step_writes_are_compared_and_opened_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dense_checkpoint()
    monkeypatch.chdir(ROOT)
    convert, compare = (step.words for step in STEPS)
    done = CliRunner().invoke(main, [*convert, "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    written = [Path(output["path"]).as_posix() for output in json.loads(done.stdout)["outputs"]]
    assert written == list(FILES)
    assert set(FILES) < set(compare)
    assert CHAT[1] in FILES


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.words[0])
def test_every_option_of_a_step_exists(step: Step) -> None:
    words = step.words
    known = CliRunner().invoke(main, [words[0], "--help"]).output.replace(",", " ").split()
    assert {word for word in words if word.startswith("-")} <= set(known)


def test_a_step_that_fails_ends_the_demo_with_its_status(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(Console(file=io.StringIO()), ("inspect", "not-there.gguf"))
    assert ended.value.code == 1
    assert "not-there.gguf" in capfd.readouterr().err


def test_through_a_pipe_the_chat_command_is_printed() -> None:
    console = Console(file=io.StringIO(), width=60)
    offer_chat(console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-1] == f"  .venv/bin/franken-gguf chat {CHAT[1]}"


def test_at_a_terminal_the_end_of_input_leaves_without_a_chat() -> None:
    ours, theirs = pty.openpty()
    code = (
        "import sys; sys.path.insert(0, 'tools'); import run_demo as d; d.offer_chat(d.Console())"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while b"leave" not in shown:
        shown += os.read(ours, 1024)
    os.write(ours, b"\x04")
    assert child.wait(timeout=10) == 0
    shown += os.read(ours, 1024)
    os.close(ours)
    assert CHAT[1].encode() in shown
