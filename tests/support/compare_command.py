"""`franken-gguf compare`: in a process of its own, and its refusals."""

from __future__ import annotations

import os
import subprocess

from click.testing import CliRunner

from franken_gguf.runner.cli import main
from support.workers import COMMAND

SMALL = ("-t", "1", "-n", "8", "--samples", "2", "--prompt", "Say hello.")


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, words)],
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
        timeout=300,
    )


def refused(*words: object) -> str:
    found = CliRunner().invoke(main, ["compare", *map(str, words)])
    assert found.exit_code in (1, 2), found.output
    return found.stderr.splitlines()[-1]
