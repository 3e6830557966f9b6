"""A source of weights, whatever its form: metadata, GGUF names, and rows on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from franken_gguf.quantize.blocks.formats import U8
from franken_gguf.quantize.common.files import FileStamp
from franken_gguf.quantize.gguf_file.values import Metadata
from franken_gguf.quantize.tensor_types.type_choice import ModelShape

from .name_mapping import Piece, SourceTensor


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
