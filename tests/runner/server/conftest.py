"""What the server's tests share, once in each process that runs some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import Server, serving
from support.tiny_model import tiny_gguf


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SmolLM2 served with no options, for tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers nonsense at once, for tests of a server of their own."""
    return tiny_gguf(tmp_path_factory.mktemp("tiny"))
