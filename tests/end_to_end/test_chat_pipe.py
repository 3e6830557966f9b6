"""`franken-gguf chat` without a keyboard: -p, pipes, and what goes wrong there."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from support.chat_command import OPTIONS, PARIS, QUESTION, chat
from support.models import demo_gguf, patched_smollm2, smollm2
from support.terminals import COMMAND, PATIENCE


def begun(*options: str) -> subprocess.Popen[bytes]:
    """A chat that tells a long story, after its first bytes."""
    story = ("-p", "Tell me a very long story about the sea.", "-c", "4096")
    process = subprocess.Popen(
        [*COMMAND, "chat", str(smollm2()), *OPTIONS, *story, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 1)
    return process


def test_one_answer_is_all_of_standard_output_and_the_speed_stands_on_standard_error() -> None:
    result = chat("-p", QUESTION)
    assert (result.returncode, result.stdout) == (0, PARIS)
    assert "tokens/s" in result.stderr
    assert "\x1b" not in result.stderr


def test_text_on_a_pipe_is_the_question() -> None:
    result = chat(text=QUESTION + "\n")
    assert (result.returncode, result.stdout) == (0, PARIS)


def test_text_on_a_pipe_goes_before_the_prompt() -> None:
    together = chat("-p", "And of Italy?", "-n", "24", text=QUESTION + "\n")
    assert together.returncode == 0
    assert together.stdout == chat("-p", f"{QUESTION}\n\nAnd of Italy?", "-n", "24").stdout


def test_bytes_that_are_not_text_are_still_answered() -> None:
    result = subprocess.run(
        [*COMMAND, "chat", str(smollm2()), *OPTIONS, "-n", "4"],
        input=b"\xff\xfe \0 \xc3",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0
    assert b"4 tokens" in result.stderr


def test_a_character_of_several_tokens_comes_out_whole() -> None:
    result = chat("-p", "Repeat after me: 🙂🙂🙂", "-n", "24")
    assert result.returncode == 0
    assert "\ufffd" not in result.stdout


def test_ctrl_c_ends_one_answer_with_status_130_and_no_traceback() -> None:
    process = begun()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"Interrupted." in errors
    assert b"Traceback" not in errors


def test_a_reader_that_closes_the_pipe_causes_no_traceback() -> None:
    process = begun()
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(PATIENCE) == 1
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


def test_nothing_to_answer_is_wrong_usage() -> None:
    result = chat()
    assert result.returncode == 2
    assert "nothing to answer; give -p TEXT, or pipe text in" in result.stderr


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        (("--rope-scale", "2", "--rope-freq-scale", "0.5"), 1, "1/N; give one of them"),
        (("-c", "-1"), 2, "'-c'"),
        (("-n", "0"), 2, "at least 1 token"),
        (("-ngl", "some"), 2, "'some' is not a number of layers"),
        (("--temp", "nan"), 1, "temperature is nan"),
        (("--top-p", "2"), 1, "top_p is 2.0; it must be from 0 to 1"),
        (("-c", "256", "-sys", "sea " * 300), 1, "tokens, the context 256; shorten it"),
    ],
)
def test_a_wrong_option_is_one_line(options: tuple[str, ...], status: int, reason: str) -> None:
    result = chat(*options, "-p", "Hello")
    assert result.returncode == status
    assert result.stdout == ""
    assert reason in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("names", ["A,B", "A,B,C,D,E"])
def test_fewer_or_more_names_than_experts_are_refused_with_both_counts(names: str) -> None:
    model = demo_gguf("Q8_0")
    result = chat("-p", "Hello", "--expert-names", names, model=model)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: --expert-names {names}: has {len(names.split(','))} names, but {model} has "
        "4 experts; give one for each, separated by commas\n"
    )


def test_a_file_that_is_not_a_gguf_is_reported_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes été.txt"
    path.write_text("just some notes, long enough to hold a header")
    result = chat("-p", "Hello", model=path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"Error: {path}: not a GGUF file (it does not start with 'GGUF')\n"


def test_a_hostile_template_is_one_line(tmp_path: Path) -> None:
    old = b"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    new = b"{% for message in messages %}{% for i in range(99999999) %}{% endfor %}{% if true %}"
    hostile = patched_smollm2(tmp_path / "loop.gguf", (old, new.ljust(len(old))))
    result = chat("-p", "Hello", model=hostile)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the model's chat template cannot be used: Range too")
    assert result.stderr.count("\n") == 1


def test_a_model_without_a_template_talks_chatml_and_says_so(tmp_path: Path) -> None:
    bare = patched_smollm2(
        tmp_path / "bare.gguf", (b"tokenizer.chat_template", b"tokenizer.chat_templatf")
    )
    result = chat("-p", QUESTION, model=bare)
    assert (result.returncode, result.stdout) == (0, PARIS)
    assert "the file has no chat template; using ChatML" in result.stderr
