"""llama.cpp really crashes at each stage: one line, the exit status, the chat saved to a word."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.crashing import COMMAND
from support.merges import make_dense, write_recipe
from support.models import smollm2
from support.terminals import COMMAND as UNHARMED
from support.terminals import CTRL_D, CTRL_Z, ENTER, Terminal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked here")

LOAD, EVALUATE = "llama_model_load_from_file", "llama_decode"
DEATHS = {
    f"{LOAD} 1 SEGV": "llama.cpp crashed (SIGSEGV) while loading the model",
    f"{EVALUATE} 1 ABRT": "llama.cpp crashed (SIGABRT: ggml.c:1: GGML_ASSERT(a < b) failed) "
    "while reading the prompt",
    f"{EVALUATE} 9 KILL": "killed (SIGKILL) while answering, most likely because memory ran out",
    f"{EVALUATE} 9 SEGV": "llama.cpp crashed (SIGSEGV) while answering",
}
DOCTOR = "'franken-gguf doctor' checks this machine"
STORY = "Tell me a very long story about the sea."
OPTIONS = ("--temp", "0", "-t", "1", "-c", "512")
FIGURES = r"\[\d+ tokens, [^\n]*\]"


def status(crash: str) -> int:
    """As a shell has it."""
    return 128 + signal.Signals[f"SIG{crash.rsplit(maxsplit=1)[-1]}"]


def run(*words: object, crash: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment | {"CRASH": crash},
        timeout=60,
    )


def terminal(folder: Path, *options: str, crash: str) -> Terminal:
    words = ("chat", str(smollm2()), *OPTIONS, "--session", "tale", *options)
    return Terminal(*words, command=COMMAND, CRASH=crash, XDG_DATA_HOME=str(folder))


def saved(folder: Path, name: str = "tale") -> list[dict[str, Any]]:
    """The messages of a session."""
    path = folder / "franken-gguf" / "sessions" / f"{name}.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    return [json.loads(line) for line in path.read_text().splitlines()][1:]


@pytest.mark.parametrize("crash", DEATHS)
def test_one_answer_ends_in_one_line_and_its_session_holds_what_was_printed(
    crash: str, tmp_path: Path
) -> None:
    words = ("chat", smollm2(), *OPTIONS, "-p", STORY, "--session", "tale")
    result = run(*words, crash=crash, XDG_DATA_HOME=str(tmp_path))
    assert result.returncode == status(crash)
    is_loading = LOAD in crash
    kept = "" if is_loading else "; the chat is saved as 'tale'"
    assert result.stderr == f"Error: {smollm2()}: {DEATHS[crash]}; {DOCTOR}{kept}\n"
    assert bool(result.stdout) == ("answering" in DEATHS[crash])
    if not is_loading:
        answers = [result.stdout] if result.stdout else []
        assert [message["mes"] for message in saved(tmp_path)] == [STORY, *answers]


@pytest.mark.parametrize("crash", list(DEATHS)[:3])
def test_a_terminal_is_as_it_was_before(crash: str, tmp_path: Path) -> None:
    with terminal(tmp_path, crash=crash) as told:
        if LOAD not in crash:
            told.at_prompt(STORY + ENTER)
        assert told.ended() == status(crash)
        assert told.modes() == told.first_modes
        assert told.screen.rfind("\x1b[?25h") > told.screen.rfind("\x1b[?25l")  # the cursor
        assert told.screen.rfind("\x1b[?2004l") > told.screen.rfind("\x1b[?2004h")
        assert f"\nError: {smollm2()}: {DEATHS[crash]}; {DOCTOR}" in told.text
        assert "Traceback" not in told.text


def test_a_crashed_chat_resumes_from_the_last_word(tmp_path: Path) -> None:
    with terminal(tmp_path, crash=f"{EVALUATE} 20 SEGV") as told:
        told.at_prompt(STORY + ENTER)
        shown = told.wait_for("Error: .*; the chat is saved as 'tale'\n")
        assert told.ended() == 139
    question, answer = saved(tmp_path)
    assert question["mes"] == STORY
    assert len(answer["mes"].split()) > 10
    assert " ".join(answer["mes"].split()) in " ".join(shown.split())
    with terminal(tmp_path, "--continue", crash=f"{EVALUATE} 99 SEGV") as again:
        again.wait_for("resumed 'tale', 2 messages\n")
        assert again.leave(CTRL_D) == 0


@pytest.mark.parametrize("command", ["/regen", "/continue"])
def test_another_answer_and_more_of_one_are_saved_as_what_they_are(
    command: str, tmp_path: Path
) -> None:
    # Seven answers' tokens are evaluated after the prompt, and the eighth is the last.
    with terminal(tmp_path, "-n", "8", "--seed", "1", crash=f"{EVALUATE} 12 SEGV") as told:
        told.at_prompt(STORY + ENTER)
        told.wait_for(FIGURES)
        told.at_prompt("/set temp 1" + ENTER)
        told.at_prompt(command + ENTER)
        assert told.ended() == 139
    question, answer = saved(tmp_path)
    assert question["mes"] == STORY
    if command == "/regen":
        first, second = answer["swipes"]
        assert (answer["swipe_id"], answer["mes"]) == (1, second)
        assert first != second
        assert second
    else:
        assert "swipes" not in answer
        assert len(answer["mes"].split()) > 8


def test_another_answer_that_has_no_word_yet_leaves_the_first(tmp_path: Path) -> None:
    with terminal(tmp_path, "-n", "8", crash=f"{EVALUATE} 9 SEGV") as told:
        told.at_prompt(STORY + ENTER)
        told.wait_for(FIGURES)
        told.at_prompt("/set temp 1" + ENTER)
        told.at_prompt("/regen" + ENTER)
        told.wait_for("while reading the prompt; .*; the chat is saved as 'tale'\n")
        assert told.ended() == 139
    _, answer = saved(tmp_path)
    assert answer["mes"]
    assert "swipes" not in answer


def test_an_unnamed_chat_is_saved_too_unless_no_save_is_given(
    tmp_path: Path,
) -> None:
    for name, option in (("kept", ()), ("not", ("--no-save",))):
        words = ("chat", str(smollm2()), *OPTIONS, *option)
        home, crash = str(tmp_path / name), f"{EVALUATE} 9 KILL"
        with Terminal(*words, command=COMMAND, XDG_DATA_HOME=home, CRASH=crash) as told:
            told.at_prompt(STORY + ENTER)
            told.wait_for(f"{DOCTOR}; the chat is saved as '.*'\n" if not option else DOCTOR)
            assert told.ended() == 137
            assert ("saved" in told.text) == (not option)
    (path,) = tmp_path.rglob("*.jsonl")
    _, answer = saved(tmp_path / "kept", path.stem)
    assert answer["mes"]


def test_a_chat_killed_while_it_waits_for_input_is_reported(tmp_path: Path) -> None:
    with terminal(tmp_path, crash=f"{EVALUATE} 99 SEGV") as told:
        told.at_prompt("")
        assert told.modes() != told.first_modes
        (child,) = worker(told.pid)
        child.kill()
        assert told.ended() == 137
        assert told.modes() == told.first_modes
        line = f"Error: {smollm2()}: killed (SIGKILL), most likely because memory ran out; {DOCTOR}"
        assert f"\n{line}\n" in told.text


@pytest.mark.parametrize("crash", [f"{LOAD} 1 SEGV", f"{EVALUATE} 1 ABRT", f"{EVALUATE} 9 KILL"])
def test_compare_names_the_model_and_the_stage(crash: str, tmp_path: Path) -> None:
    words = ("compare", smollm2(), "-t", "1", "-n", "24", "--samples", "1", "--prompt", "A story.")
    result = run(*words, "--cache", tmp_path, crash=f"{crash} spawned")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"Error: {smollm2()}: {DEATHS[crash]}; {DOCTOR}"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("crash", "how"),
    [
        # The first model that is loaded is the tokenizer's check.
        (f"{LOAD} 2 SEGV", "llama.cpp crashed (SIGSEGV) while loading the model"),
        (f"{EVALUATE} 1 SEGV", "llama.cpp crashed (SIGSEGV) while reading the prompt"),
        (f"{EVALUATE} 2 KILL", "killed (SIGKILL) while reading the prompt, most likely because"),
    ],
)
def test_a_recipe_names_its_base_model_and_leaves_nothing_but_what_the_next_run_deletes(
    crash: str, how: str, tmp_path: Path
) -> None:
    base = make_dense(tmp_path / "base")
    experts = [{"source_model": "base", "positive_prompts": [one]} for one in ("moon", "salt")]
    recipe = write_recipe(tmp_path / "tale.yml", *experts, gate_mode="hidden")
    out = tmp_path / "out"
    out.mkdir()
    words = ("convert", recipe, "-q", "Q8_0", "-o", out / "tale.gguf", "--threads", "1")
    result = run(*words, crash=crash)
    assert result.returncode == status(crash)
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"Error: {recipe}: base model {base}: {how}")
    assert DOCTOR in line
    again = subprocess.run([*UNHARMED, *map(str, words)], capture_output=True, check=True)
    assert again.returncode == 0
    assert [path.name for path in out.iterdir()] == ["tale.gguf"]


def test_who_kills_the_first_process_ends_the_second(tmp_path: Path) -> None:
    with terminal(tmp_path, crash=f"{EVALUATE} 9999 SEGV") as told:
        told.at_prompt(STORY + ENTER)
        told.wait_for("(?i)the sea")
        (child,) = worker(told.pid)
        told.kill()
        assert not psutil.wait_procs([child], timeout=10)[1]


def test_a_signal_to_the_whole_group_ends_the_chat_once_and_what_came_is_saved(
    tmp_path: Path,
) -> None:
    with terminal(tmp_path, crash=f"{EVALUATE} 9999 SEGV") as told:
        told.at_prompt(STORY + ENTER)
        told.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        os.killpg(told.pid, signal.SIGTERM)
        assert told.ended() == 143
        assert told.text.count("Interrupted.") == 1
        assert "Traceback" not in told.text
    assert "the sea" in saved(tmp_path)[1]["mes"].lower()


def test_ctrl_z_stops_the_chat_and_fg_resumes_it(tmp_path: Path) -> None:
    words = " ".join([*UNHARMED, "chat", str(smollm2()), *OPTIONS, "-n", "60", "--no-save"])
    bash = ("bash", "--norc", "--noprofile", "-i")
    with Terminal(command=["/usr/bin/env", *bash], PS1="$ ", INPUTRC="/dev/null") as told:
        told.type(words + ENTER)
        told.at_prompt(STORY + ENTER)
        told.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        told.type(CTRL_Z)
        told.wait_for("Stopped")
        told.type("fg" + ENTER)
        told.wait_for(FIGURES)
        told.at_prompt("/bye" + ENTER)
        told.wait_for(r"\$ \Z")
        told.type("echo status $?" + ENTER)
        told.wait_for("\nstatus 0\n")
        told.type("exit" + ENTER)
        assert told.ended() == 0


def worker(pid: int) -> list[psutil.Process]:
    """The process that works for a command."""
    return [one for one in psutil.Process(pid).children() if "-I" not in one.cmdline()]


def test_a_command_that_ends_normally_keeps_its_exit_status() -> None:
    command = [sys.executable, "-m", "franken_gguf.runner"]
    for words, expected in ((["plan", "nothing.gguf"], 1), (["chat"], 2), (["chat", "-h"], 0)):
        result = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert result.returncode == expected, result.stderr
        assert not re.search("crash|kill", result.stderr)
