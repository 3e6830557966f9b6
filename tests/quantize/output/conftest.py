"""What the tests of what befalls a conversion share: a checkpoint, and its files undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.checkpoints import make_checkpoint
from support.interrupted import run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", shards=3)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The files of a run without a fault, from the same checkpoint elsewhere."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(make_checkpoint(folder / "model", shards=3), folder / "out")[0]
