"""Every command line in README.md is valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from franken_gguf.runner.cli import main
from support.models import ROOT

LINE = re.compile(r"^    (?:\$ |[^|\n]*\| )?(franken-gguf [^\n]*?)(?: \.\.\.)?$", re.MULTILINE)
COMMANDS = LINE.findall((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_line_of_the_readme_is_valid(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(command)[1:]
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for word in words:
        if word == "my-merge":
            (tmp_path / word).mkdir()
        elif word.endswith(".gguf"):
            (tmp_path / word).parent.mkdir(exist_ok=True)
            (tmp_path / word).touch()
    monkeypatch.chdir(tmp_path)
    name, subcommand, rest = main.resolve_command(click.Context(main), words)
    assert subcommand
    assert subcommand.make_context(name, rest).params


def test_a_file_named_in_the_readme_is_written_by_make_demo_or_an_earlier_line() -> None:
    written = {f"demo/storytellers-{kind}.gguf" for kind in ("F16", "Q8_0", "Q4_K_M")}
    written |= {"my-4x7b-Q4_0.gguf"}  # of which README says that it is the reader's own
    for command in COMMANDS:
        words = shlex.split(command)
        if words[1] == "convert":
            written |= {f"quants/my-merge-{kind}.gguf" for kind in ("Q8_0", "Q4_K_M")}
        assert {word for word in words if word.endswith(".gguf")} <= written
