"""Calibration texts: files of the user's, and the set that comes with this package."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from franken_gguf.quantize.common.errors import ImatrixError
from franken_gguf.runner.conversation.conversation import Message

BUILT_IN = "franken-gguf calibration set"
_MAX_BYTES = 1 << 28

Render = Callable[[Sequence[Message]], str]
"""A dialogue as text."""


def read_text(path: Path) -> str:
    """A file's text. Raises ImatrixError for one that is empty, binary or not UTF-8, OSError."""
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ImatrixError(f"{path}: is larger than {_MAX_BYTES >> 20} MiB; give a part of it")
    if not data.strip():
        raise ImatrixError(f"{path}: is empty; give a file with text in it")
    if b"\0" in data:
        raise ImatrixError(f"{path}: is a binary file; give a plain text in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImatrixError(
            f"{path}: is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}; convert it, "
            f"as with iconv -f latin1 -t utf-8"
        ) from None


def built_in_text(render: Render) -> str:
    """The package's own set, made by tools/make_calibration_text.py; `render` shows dialogues."""
    lines = (files(__package__) / "calibration.jsonl").read_text(encoding="utf-8").splitlines()
    return "\n\n".join(_document(json.loads(line), render) for line in lines)


def plainly(messages: Sequence[Message]) -> str:
    """A dialogue as plain text, for models without a chat template."""
    return "\n\n".join(f"{message.role.title()}: {message.content}" for message in messages)


def _document(document: dict[str, object], render: Render) -> str:
    messages = document.get("messages")
    if isinstance(messages, list):
        return render([Message(turn["role"], turn["content"]) for turn in messages])
    return str(document["text"])
