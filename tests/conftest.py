"""What all tests share: where hypothesis finds its examples, and a folder for each tokenizer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from support.bpe_tokenizers import write_bpe_tokenizer, write_json
from support.sentencepiece_tokenizers import write_sentencepiece
from support.tokenizer_keys import CONFIG

# A shell's background job has Ctrl-C ignored, nohup's command SIGHUP: so would all that the tests
# interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# At a desk new examples are welcome; CI repeats the same ones. A busy machine is no failure.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


@pytest.fixture
def bpe(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", CONFIG)
    write_bpe_tokenizer(tmp_path)
    return tmp_path


@pytest.fixture
def spm(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", CONFIG)
    write_sentencepiece(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True, scope="session")
def _data_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test leaves sessions, history or comparisons among the user's own."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
