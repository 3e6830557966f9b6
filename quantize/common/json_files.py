"""Read the JSON and text files of a checkpoint: untrusted, so their size is limited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import FrankenError

MAX_BYTES = 1 << 28
"""256 MiB. The largest known tokenizer.json (a vocabulary of 262,144) has 35 MB."""


def read_object(path: Path, error: type[FrankenError]) -> dict[str, Any]:
    """The JSON object in a UTF-8 file.

    Raises `error`, naming the file, if the file is missing, larger than MAX_BYTES, not UTF-8, not
    valid JSON, nested too deeply, or if its top level is not an object.
    """
    text = read_text(path, error)
    try:
        document = json.loads(text)
    except RecursionError:
        raise error(f"{path}: JSON nested too deeply; download the file again") from None
    except ValueError as problem:
        raise error(f"{path}: not valid JSON ({problem}); download the file again") from None
    if not isinstance(document, dict):
        raise error(f"{path}: not a JSON object; download the file again")
    return document


def read_text(path: Path, error: type[FrankenError]) -> str:
    """A UTF-8 file's text, every line break as a newline; raises `error` as read_object does."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise error(f"{path}: file not found; download the complete checkpoint") from None
    except OSError as problem:
        raise error(
            f"{path}: cannot be read ({problem.strerror or problem}); check its permissions"
        ) from None
    if len(raw) > MAX_BYTES:
        raise error(f"{path}: larger than {MAX_BYTES >> 20} MiB; download the file again")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 text (byte {problem.start}); download it again") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
