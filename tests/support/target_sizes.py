"""A checkpoint that has been measured for --target-size, and commands that use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from franken_gguf.runner.cli import main
from support.checkpoints import make_checkpoint


def franken(*words: object) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, words), "--threads", "1"])


def converted(folder: Path, *words: object) -> dict[str, Any]:
    """What --json says of the one output."""
    result = franken(folder / "tales", *words, "--json", "--overwrite")
    assert result.exit_code == 0, result.output
    (output,) = json.loads(result.stdout)["outputs"]
    assert isinstance(output, dict)
    return output


def measured_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder with the measured checkpoint `tales`, and its F16 file."""
    folder = factory.mktemp("target")
    make_checkpoint(folder / "tales", dtype="F16")
    result = franken(folder / "tales", "-q", "F16", "--target-bpw", "5", "-o", folder)
    assert result.exit_code == 0, result.output
    return folder
