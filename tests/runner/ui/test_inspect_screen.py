"""How far `inspect --verify` is: shown at a terminal, and only there."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.jobs import jobs
from franken_gguf.runner.ui.inspect_screen import verifying
from support.checkpoints import make_checkpoint


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_finished_job_is_shown_at_a_terminal_alone(tmp_path: Path, is_terminal: bool) -> None:
    source = open_source(make_checkpoint(tmp_path / "model"))
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=100)
    with verifying(console, source) as report:
        for job in jobs(source.tensors, 1 << 12):
            report(job)
    count = len(source.tensors)
    line = f"comparing every tensor with the source: 100 %, {count} of {count} tensors"
    assert line in screen.getvalue() if is_terminal else screen.getvalue() == ""
