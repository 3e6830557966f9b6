"""`make pythons` finds the Pythons that start, whatever else bears their names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from run_pythons import find

NAME = "python{}.{}".format(*sys.version_info)


def test_a_shim_that_does_not_start_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim, there = tmp_path / "shims" / NAME, tmp_path / "pyenv" / "versions" / "x" / "bin" / NAME
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert find(NAME) is None
    there.parent.mkdir(parents=True)
    there.symlink_to(os.path.realpath(sys.executable))
    assert find(NAME) == there
    there.rename(there.with_name("python3.99"))
    assert find("python3.99") is None
