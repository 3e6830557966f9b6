"""The convert command as a user meets it: exit statuses, one-line errors, JSON, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cases import CASES
from checkpoints import make_checkpoint
from click.testing import CliRunner, Result
from models import demo_checkpoint

from franken_gguf.runner.cli import main

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_several_types_are_written_into_a_folder_that_is_made_for_them(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken(
        "convert", checkpoint, "-q", "q8_0", "-q", "F16", "-o", tmp_path / "new" / "out"
    )
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert written == ["tales-F16.gguf", "tales-Q8_0.gguf"]
    assert "bits/weight" in result.stdout
    assert result.stderr == ""


def test_one_type_may_name_its_file(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken("convert", checkpoint, "-q", "Q8_0", "-o", tmp_path / "story.gguf")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "story.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_folder_passes_the_token_check(tmp_path: Path, name: str) -> None:
    CASES[name](tmp_path / name)
    result = franken("convert", tmp_path / name, "-q", "Q8_0", "-o", tmp_path / "out.gguf")
    assert result.exit_code == 0, result.output


def test_json_is_all_there_is_on_standard_output(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken("convert", checkpoint, "-q", "Q8_0", "-q", "Q4_0", "-o", tmp_path, "--json")
    documents = json.loads(result.stdout)
    assert [document["type"] for document in documents] == ["Q8_0", "Q4_0"]
    for document in documents:
        assert Path(document["path"]).stat().st_size == document["bytes"]


def test_a_dry_run_says_the_same_and_writes_nothing(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    words = ("convert", checkpoint, "-q", "Q8_0", "-q", "Q4_0", "-o", tmp_path / "out", "--json")
    planned = franken(*words, "--dry-run")
    assert not (tmp_path / "out").exists()
    assert planned.stdout == franken(*words).stdout


def test_a_type_that_does_not_exist_lists_those_that_do_nearest_first(tmp_path: Path) -> None:
    result = franken("convert", make_checkpoint(tmp_path / "m"), "-q", "Q4_2", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no type 'Q4_2'; there are: Q4_1, Q4_0")


BAD_SOURCES = {
    "nowhere": "nowhere: no such file or folder",
    "empty": "no model.safetensors in it",
    "text.gguf": "not a GGUF file",
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_a_source_that_is_none_is_one_line_and_status_1(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gguf").write_text("once upon a time")
    result = franken("convert", tmp_path / name, "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert BAD_SOURCES[name] in result.stderr


def test_wrong_words_are_status_2() -> None:
    assert franken("convert").exit_code == 2
    assert franken("convert", "x", "--threads", "0").exit_code == 2
    assert franken("convert", "x", "--tensor-type", "nothing").exit_code == 2
    assert franken("konvert").exit_code == 2


def test_names_that_steer_a_terminal_reach_it_escaped(tmp_path: Path) -> None:
    result = franken("convert", tmp_path / "a\x1b[2Jb", "-o", tmp_path)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "a\\x1b[2Jb: no such file or folder" in result.stderr


def test_a_tokenizer_that_llama_cpp_cuts_otherwise_is_refused_and_nothing_stays(
    tmp_path: Path,
) -> None:
    checkpoint = make_checkpoint(tmp_path / "model")
    path = checkpoint / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}  # which llama.cpp does not do for BPE
    path.write_text(json.dumps(tokenizer))
    result = franken("convert", checkpoint, "-q", "Q8_0", "-o", tmp_path / "out.gguf")
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.gguf").exists()
    assert not (tmp_path / "out.gguf.part").exists()


def test_ctrl_c_is_status_130_and_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"precious")
    command = [
        COMMAND,
        "convert",
        str(demo_checkpoint()),
        "-q",
        "Q8_0",
        "-o",
        str(out),
        "--overwrite",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        part = tmp_path / "out.gguf.part"
        while not part.exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]
    assert out.read_bytes() == b"precious"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix's")
def test_a_terminal_sees_a_bar_that_goes_away(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        COMMAND,
        "convert",
        str(demo_checkpoint()),
        "-q",
        "BF16",
        "-o",
        str(tmp_path / "x.gguf"),
    ]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        # Linux ends a pseudo-terminal whose other end is closed with an error.
        with suppress(OSError):
            while data := os.read(ours, 65536):
                seen += data
        os.close(ours)
    assert process.returncode == 0
    assert b"tensors" in seen
    assert b"weights/s" in seen
    assert b"\x1b[?25h" in seen  # the cursor is back


# Linux counts what a parent holds in its child's peak: the command needs a small parent.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is Unix's")
def test_the_demo_checkpoint_is_converted_in_less_than_400_mb(tmp_path: Path) -> None:
    command = [COMMAND, "convert", str(demo_checkpoint()), "-q", "Q8_0", "-q", "F16"]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command, "-o", str(tmp_path)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = int(measured.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert 20e6 < peak < 400e6
