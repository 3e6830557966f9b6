"""Opens a Hugging Face folder, a GGUF file or a merge recipe as a source."""

from __future__ import annotations

from pathlib import Path

from .checkpoint.gguf_source import GGUFSource
from .checkpoint.hf_source import folder_source
from .checkpoint.source import Source
from .common.errors import CheckpointError
from .merge.merged_source import merge_source


def open_source(path: Path) -> Source:
    """The source at `path`: a Hugging Face folder, a GGUF file, or a merge recipe (.yml).

    Reads only headers and tokenizer files. Raises a FrankenError.
    """
    if path.is_dir():
        return folder_source(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder")
    if path.suffix.lower() in (".yml", ".yaml"):
        return merge_source(path)
    if path.suffix.lower() in (".safetensors", ".json"):
        raise CheckpointError(f"{path}: is one file of a model; give its folder, {path.parent}")
    return GGUFSource(path)
