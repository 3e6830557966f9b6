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
from terminals import PATIENCE

BASH = shutil.which("bash")
CLEAR_LINE, TAB = "\x15", "\t"

pytestmark = pytest.mark.skipif(BASH is None, reason="there is no bash here")


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
