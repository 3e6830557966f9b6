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
from run_demo import BEST, CHAT, COMPARED, FILES, OUT, SMALL, STEPS, TYPES, Step, offer_chat, run

from franken_gguf.quantize.output.output_names import output_paths
from franken_gguf.quantize.target_size.target import Target
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.cli import main
from franken_gguf.runner.cli.target_options import stand_in
from support.models import ROOT, dense_checkpoint


def test_the_files_that_the_steps_write_are_read_by_later_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dense_checkpoint()
    monkeypatch.chdir(ROOT)
    merge, imatrix, shrink, compare = (step.words for step in STEPS)
    done = CliRunner().invoke(main, [*merge, "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    written = [Path(output["path"]).as_posix() for output in json.loads(done.stdout)["outputs"]]
    assert written == [FILES[name] for name in TYPES]
    assert imatrix[1] == shrink[1] == FILES["F16"]
    assert imatrix[imatrix.index("-o") + 1] == shrink[shrink.index("--imatrix") + 1]
    assert {FILES[name] for name in COMPARED} < set(compare)
    assert CHAT[1] in written


def test_the_small_files_have_the_names_that_are_compared() -> None:
    target = Target(BEST, f"--target-size {SMALL}", 1)
    names = [find_preset(SMALL), stand_in(target)]
    paths = output_paths(Path(FILES["F16"]).stem, names, OUT)
    assert [path.as_posix() for path in paths] == [FILES[SMALL], FILES[BEST]]


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
