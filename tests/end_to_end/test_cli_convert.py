"""The convert command as a user meets it: exit statuses, one-line errors, JSON, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli import main
from franken_gguf.runner.cli.options.types import size
from support.cases import CASES
from support.checkpoints import make_checkpoint
from support.mixtral import make_mixtral
from support.models import demo_checkpoint

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_several_types_are_written_into_a_new_folder(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken(
        "convert", checkpoint, "-q", "q8_0", "-q", "F16", "-o", tmp_path / "new" / "out"
    )
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert written == ["tales-F16.gguf", "tales-Q8_0.gguf"]
    assert "bits/weight" in result.stdout
    assert re.fullmatch(
        r"converting \d+\.\d s, saving \d+\.\d s; \d+ process(es)?: read \d+ %, widen \d+ %, "
        r"quantize \d+ %, write \d+ %\n",
        result.stderr,
    )


def test_a_single_type_can_name_its_file(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken("convert", checkpoint, "-q", "Q8_0", "-o", tmp_path / "story.gguf")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "story.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("out", ["new", "new/", "new.v2/", "new/inner"])
def test_a_path_without_a_suffix_or_with_a_slash_at_its_end_is_a_folder_that_is_made(
    tmp_path: Path, out: str
) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken("convert", checkpoint, "-q", "Q8_0", "-o", f"{tmp_path}/{out}")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / out).iterdir()] == ["tales-Q8_0.gguf"]


def test_several_types_and_the_name_of_one_file_are_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    out = tmp_path / "story.gguf"
    result = franken("convert", checkpoint, "-q", "Q8_0", "-q", "F16", "-o", out)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {out}: is one file, but -q asks for 2; name a folder with -o\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tales"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_in_which_no_file_can_be_made_is_not_called_busy(tmp_path: Path) -> None:
    """Root may write to /proc, and yet nothing comes into being there."""
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken("convert", checkpoint, "-q", "Q8_0", "-o", "/proc/story.gguf")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"Error: /proc: cannot be written to( \(.+\))?; choose another with -o\n", result.stderr
    )


def test_a_name_too_long_for_its_lock_is_a_clear_error(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    out = tmp_path / f"{'x' * 248}.gguf"
    result = franken("convert", checkpoint, "-q", "Q8_0", "-o", out)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "File name too long" in result.stderr


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_folder_passes_the_token_check(tmp_path: Path, name: str) -> None:
    CASES[name](tmp_path / name)
    result = franken("convert", tmp_path / name, "-q", "Q8_0", "-o", tmp_path / "out.gguf")
    assert result.exit_code == 0, result.output


def test_json_is_the_only_output(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken("convert", checkpoint, "-q", "Q8_0", "-q", "Q4_0", "-o", tmp_path, "--json")
    documents = json.loads(result.stdout)["outputs"]
    assert [document["type"] for document in documents] == ["Q8_0", "Q4_0"]
    for document in documents:
        assert Path(document["path"]).stat().st_size == document["bytes"]


def test_a_dry_run_reports_the_same_and_writes_nothing(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    words = ("convert", checkpoint, "-q", "Q8_0", "-q", "Q4_0", "-o", tmp_path / "out", "--json")
    planned = json.loads(franken(*words, "--dry-run").stdout)
    assert not (tmp_path / "out").exists()
    written = json.loads(franken(*words).stdout)
    for before, after in zip(planned["outputs"], written["outputs"], strict=True):
        tensors = before.pop("tensors")
        assert before == after
        header = read_header(Path(after["path"]))
        assert [(t.name, list(t.shape), t.type.name, t.nbytes) for t in header.tensors] == [
            (t["name"], t["shape"], t["type"], t["bytes"]) for t in tensors
        ]
        assert Path(after["path"]).stat().st_size == before["bytes"]
    expected = planned["expected"]
    assert expected["disk_bytes"] == sum(document["bytes"] for document in written["outputs"])
    assert expected["memory_bytes"] <= 512 << 20
    assert 0 < expected["seconds"] < 60


def test_an_unknown_type_lists_the_known_ones_nearest_first(tmp_path: Path) -> None:
    result = franken("convert", make_checkpoint(tmp_path / "m"), "-q", "Q4_2", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: unknown type 'Q4_2'; known types: Q4_1, Q4_0")


BAD_SOURCES = {
    "nowhere": "nowhere: no such file or folder",
    "empty": "has no model.safetensors",
    "text.gguf": "not a GGUF file",
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_an_unusable_source_gives_one_line_and_status_1(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.gguf").write_text("once upon a time")
    result = franken("convert", tmp_path / name, "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert BAD_SOURCES[name] in result.stderr


def test_wrong_usage_is_status_2() -> None:
    assert franken("convert").exit_code == 2
    assert franken("convert", "x", "--threads", "0").exit_code == 2
    assert franken("convert", "x", "--tensor-type", "nothing").exit_code == 2
    assert franken("konvert").exit_code == 2


def test_control_characters_in_names_are_escaped(tmp_path: Path) -> None:
    result = franken("convert", tmp_path / "a\x1b[2Jb", "-o", tmp_path)
    assert result.exit_code == 1
    assert "\x1b" not in result.stderr
    assert "a\\x1b[2Jb: no such file or folder" in result.stderr


def test_a_tokenizer_that_llama_cpp_reads_differently_is_refused_without_output(
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


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_conversion_keeps_existing_files_and_resumes(
    tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"precious")
    command = [COMMAND, "convert", str(demo_checkpoint()), "-q", "Q6_K", "-o", str(out)]
    command += ["--overwrite", "--threads", "2", "--kernels", "numpy"]  # long enough to interrupt
    # A group of its own, which gets the signal whole, as from a terminal.
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        journal = tmp_path / "out.gguf.journal"
        while process.poll() is None and (not journal.exists() or journal.stat().st_size < 300):
            time.sleep(0.01)
        (os.killpg if sent is signal.SIGINT else os.kill)(process.pid, sent)
        _, errors = process.communicate()
    assert process.returncode == status, errors
    assert re.fullmatch(r"Interrupted at \d+ %; run the same command to resume\.\n", errors)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.gguf",
        "out.gguf.journal",
        "out.gguf.part",
    ]
    assert out.read_bytes() == b"precious"
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.match(r".*out\.gguf: resuming at \d+ %\n", again.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]
    assert out.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("text", ["-1", "", "many", "1.5.2G", "3iB", "99999999T", "9" * 400])
def test_an_invalid_size_is_wrong_usage(tmp_path: Path, text: str) -> None:
    result = franken("convert", tmp_path, "--max-memory", text)
    assert result.exit_code == 2
    assert "--max-memory" in result.stderr


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("0", 0), ("512", 512), ("2K", 2000), ("1.5MB", 1_500_000), ("6GiB", 6 << 30)],
)
def test_sizes_are_decimal_unless_given_as_binary(text: str, nbytes: int) -> None:
    assert size(text) == nbytes


def test_a_model_is_split_into_files_of_the_given_size(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "tales")
    result = franken(
        "convert", checkpoint, "-q", "Q8_0", "-o", tmp_path, "--split-max-size", "2M", "--json"
    )
    (document,) = json.loads(result.stdout)["outputs"]
    files = [Path(file) for file in document["files"]]
    assert files[0].name == f"tales-Q8_0-00001-of-{len(files):05}.gguf"
    assert len(files) > 2
    assert sum(file.stat().st_size for file in files) == document["bytes"]
    again = franken("convert", checkpoint, "-q", "Q8_0", "-o", tmp_path, "--split-max-size", "2M")
    assert again.exit_code == 1
    assert "00001-of" in again.stderr
    assert "exists already" in again.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix's")
def test_a_terminal_shows_a_bar_and_removes_it(tmp_path: Path) -> None:
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


@pytest.mark.skipif(sys.platform == "win32", reason="/proc and its like are Unix's")
def test_a_layer_of_mixtral_is_converted_in_less_than_700_mb(tmp_path: Path) -> None:
    """Its expert tensors are 1.9 GB in float32. The weights are a hole in a file, all zero."""
    checkpoint = make_mixtral(tmp_path / "mixtral", layers=1, sparse=True)
    command = [COMMAND, "convert", str(checkpoint), "-q", "Q4_0", "-o", str(tmp_path / "out.gguf")]
    process = psutil.Popen([*command, "--threads", "2"])
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            tree = (process, *process.children(recursive=True))
            peak = max(peak, sum(one.memory_info().rss for one in tree))
        time.sleep(0.02)
    assert process.returncode == 0
    (tmp_path / "out.gguf").unlink()
    assert 60e6 < peak < 700e6
