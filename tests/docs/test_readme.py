"""Every command line in README.md is valid."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from run_demo import FILES, IMATRIX

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
        if word.endswith(".gguf"):
            (tmp_path / word).parent.mkdir(exist_ok=True)
            (tmp_path / word).touch()
    monkeypatch.chdir(tmp_path)
    # With main's settings: click keeps the first --help that it makes for a command.
    top = click.Context(main, **main.context_settings)
    name, subcommand, rest = main.resolve_command(top, words)
    assert subcommand
    assert subcommand.make_context(name, rest, parent=top).params


def test_every_model_of_the_readme_is_one_of_the_demo_or_the_readers_own() -> None:
    named = {word for line in COMMANDS for word in shlex.split(line) if word.endswith(".gguf")}
    assert {name for name in named if not name.startswith("my-")} <= {*FILES.values(), IMATRIX}
    assert len(COMMANDS) >= 5
