"""Reads a recipe's YAML; what is not a recipe for a mixture is refused with what to do with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.common.yaml_files import read_yaml

_MAX_BYTES = 1 << 18
_EXPERTS = re.compile(rb"^experts:", re.MULTILINE)
_METHOD = re.compile(rb"""^merge_method:\s*["']?([a-z_]{1,40})""", re.MULTILINE)


def recipe_document(path: Path) -> Any:
    """The recipe's YAML. Raises MergeError, OSError."""
    if path.is_dir():
        raise MergeError(f"{path}: is a folder, not a recipe; franken-gguf convert takes it")
    with path.open("rb") as file:
        start = file.read(_MAX_BYTES)
    if start.startswith(b"GGUF"):
        raise MergeError(
            f"{path}: is a GGUF file, not a recipe; chat and convert take it as it is, and a "
            "recipe can name it as an expert's source_model"
        )
    # Searched in the text: such a recipe nests deeper than read_yaml allows.
    if (method := _METHOD.search(start)) and not _EXPERTS.search(start):
        raise MergeError(
            f"{path}: is a recipe for mergekit's merge_method: {method[1].decode()}, not for a "
            f"mixture of experts; run mergekit-yaml {path} FOLDER, then convert that folder"
        )
    return read_yaml(path, MergeError, _MAX_BYTES)
