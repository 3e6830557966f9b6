"""Tab in a real bash, with the script that docs/cli.md has people load."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.terminals import PATIENCE

BASH = shutil.which("bash")
CLEAR_LINE, TAB = "\x15", "\t"


class Bash:
    """An interactive bash at a pseudo-terminal, with completion for franken-gguf loaded."""

    def __init__(self, folder: Path) -> None:
        assert BASH
        self._ours, theirs = pty.openpty()
        commands = Path(sys.executable).parent
        self._child = subprocess.Popen(
            [BASH, "--norc", "--noprofile", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            start_new_session=True,
            env=os.environ
            | {"PATH": f"{commands}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
            | {"HOME": str(folder), "INPUTRC": os.devnull},
        )
        os.close(theirs)
        self.type("bind 'set bell-style none'; bind 'set enable-bracketed-paste off'\n")
        self.type('eval "$(_FRANKEN_GGUF_COMPLETE=bash_source franken-gguf)" && echo rea""dy\n')
        self.wait_for(r"\nready\r?\n\$ ")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, pattern: str) -> None:
        shown, deadline = "", time.monotonic() + PATIENCE
        while not re.search(pattern, shown):
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self._ours], [], [], left)[0]:
                raise AssertionError(f"{pattern!r} did not come: {shown!r}")
            shown += os.read(self._ours, 1 << 16).decode(errors="replace")

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._ours)


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("franken-gguf conv", "franken-gguf convert "),
        ("franken-gguf chat --summ", "--summarize "),
        ("franken-gguf convert x -q q5_k_m", "Q5_K_M "),
        ("franken-gguf plan x -ctk q8", "-ctk q8_0 "),
        ("franken-gguf chat x --preset pre", "--preset precise "),
        ("franken-gguf chat my-mer", "chat my-merge-Q8_0.gguf "),
    ],
)
def test_tab_completes_a_word(tmp_path: Path, typed: str, completed: str) -> None:
    (tmp_path / "my-merge-Q8_0.gguf").touch()
    bash = Bash(tmp_path)
    try:
        bash.type(CLEAR_LINE + typed + TAB)
        bash.wait_for(re.escape(completed))
    finally:
        bash.close()


def offered(*words: str, **variables: str) -> str:
    """What the program prints for bash to offer after `words`."""
    ask = {"_FRANKEN_GGUF_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words) + 1)}
    done = subprocess.run(
        [Path(sys.executable).with_name("franken-gguf")],
        env=os.environ | ask | {"COMP_WORDS": f"franken-gguf {' '.join(words)} "} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_saved_chats_are_offered_unless_a_shell_would_take_their_names_apart(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "franken-gguf" / "sessions"
    folder.mkdir(parents=True)
    for name in ("skerry", "two words", "$(reboot)"):
        (folder / f"{name}.jsonl").touch()
    words = ("chat", "x.gguf", "--session")
    assert offered(*words, XDG_DATA_HOME=str(tmp_path)) == "plain,skerry\n"


def test_a_broken_file_of_presets_offers_nothing_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "franken-gguf").mkdir()
    (tmp_path / "franken-gguf" / "presets.yml").write_text("mine: [")
    assert offered("chat", "x.gguf", "--preset", XDG_CONFIG_HOME=str(tmp_path)).strip() == ""
