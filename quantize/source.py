"""A source of weights, whatever its form: metadata, GGUF names, and rows on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from .checkpoint_source import folder_source
from .errors import CheckpointError
from .files import FileStamp
from .formats import U8
from .gguf_source import GGUFSource
from .gguf_types import Metadata
from .mapping import Piece, SourceTensor
from .merge.source import merge_source
from .recipe import ModelShape


class Source(Protocol):
    """What `convert` needs of a checkpoint, a GGUF file or a merge recipe."""

    name: str
    metadata: Metadata
    model: ModelShape
    tensors: list[SourceTensor]
    """In llama-quantize's order: by layer, then by name."""
    is_gguf: bool
    tokenizer_folder: Path | None
    """Where the tokenizer's own files are; None where there are none, as for a GGUF file."""

    stamps: list[FileStamp]
    """Of every file that is read, when it was opened."""

    @property
    def files(self) -> set[Path]:
        """Every file that is read."""

    @property
    def fingerprint(self) -> bytes:
        """What its rows depend on besides those files."""

    def read(self, tensor: SourceTensor, piece: Piece, start: int, stop: int) -> U8:
        """Rows `start` to `stop` of one piece, as stored: uint8 [rows, row_bytes].

        Rotary tensors are read by whole heads. A source can be pickled, so that other processes
        read from it too.
        """


def open_source(path: Path) -> Source:
    """The source at `path`: a Hugging Face folder, a GGUF file, or a merge recipe (.yml).

    Reads headers and tokenizer files alone. Raises a FrankenError.
    """
    if path.is_dir():
        return folder_source(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file or folder")
    if path.suffix.lower() in (".yml", ".yaml"):
        return merge_source(path)
    return GGUFSource(path)
