"""Temporary GGUF files: deleted at the end, or after kill -9 when the next one is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from franken_gguf.runner.engine.temporary_gguf import temporary_gguf

SCRIPT = """
import sys
from pathlib import Path
from franken_gguf.runner.engine.temporary_gguf import temporary_gguf

with temporary_gguf(Path(sys.argv[1])) as file:
    file.write_bytes(b"GGUF")
    file.with_name(f"{file.name}.part").write_bytes(b"half")
    print(file, flush=True)
    sys.stdin.read()
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process at work in `folder`, and its file."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, Path(process.stdout.readline().rstrip())


def test_nothing_of_a_temporary_gguf_stays(tmp_path: Path) -> None:
    with temporary_gguf(tmp_path) as file:
        file.write_bytes(b"GGUF")
        assert file.parent.parent == tmp_path
    with pytest.raises(ZeroDivisionError), temporary_gguf(tmp_path) as file:
        file.with_name(f"{file.name}.part").write_bytes(b"half")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_killed_processs_file_is_deleted_and_a_running_ones_is_kept(tmp_path: Path) -> None:
    dead, left = start(tmp_path)
    alive, used = start(tmp_path)
    with dead, alive:
        assert left.exists(), used.exists()
        dead.kill()
        dead.wait()
        assert left.exists()
        with temporary_gguf(tmp_path):
            assert not left.parent.exists()
            assert used.exists()
        alive.communicate("")
    assert alive.returncode == 0
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_ours_are_kept(tmp_path: Path) -> None:
    process, left = start(tmp_path)
    with process:
        (left.parent / "novel.txt").write_text("Chapter one")
        process.kill()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("lock", "base.gguf"):
        (elsewhere / name).write_text("mine")
    (tmp_path / ".franken-gguf-base-link").symlink_to(elsewhere)
    (tmp_path / ".franken-gguf-base-new").mkdir()
    (tmp_path / ".franken-gguf-base-file").write_text("mine")
    with temporary_gguf(tmp_path):
        pass
    assert sorted(path.name for path in left.parent.iterdir()) == ["novel.txt"]
    assert (elsewhere / "base.gguf").read_text() == "mine"
    assert len(list(tmp_path.glob(".franken-gguf-base-*"))) == 4
