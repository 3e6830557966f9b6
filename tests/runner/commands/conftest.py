"""A chat with the real model, and a saved dialogue with it, for commands about stories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from franken_gguf.runner import Chat
from franken_gguf.runner.chat.dialogue import Dialogue
from support.dialogues import new_dialogue, small_chat


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with small_chat(2048) as chat:
        yield chat


@pytest.fixture
def dialogue(chat: Chat, tmp_path: Path) -> Iterator[Dialogue]:
    with new_dialogue(chat, tmp_path, max_tokens=8) as dialogue:
        yield dialogue
