"""The protocol for sources: metadata, tensors under GGUF names, and rows on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from franken_gguf.quantize.blocks.formats import U8
from franken_gguf.quantize.common.files import FileStamp
from franken_gguf.quantize.gguf_file.values import Metadata
from franken_gguf.quantize.tensor_types.type_choice import PolicyModel

from .name_mapping import Piece, SourceTensor


class Source(Protocol):
    """A checkpoint, a GGUF file or a merge recipe, as `convert` reads it. Can be pickled."""

    name: str
    metadata: Metadata
    model: PolicyModel
    tensors: list[SourceTensor]
    """In llama-quantize's order: by layer, then by name."""
    is_gguf: bool
    tokenizer_folder: Path | None
    """The folder of the tokenizer files; None if there are none, as for a GGUF file."""

    notices: list[str]
    """What the user should know about it, a line each."""

    stamps: list[FileStamp]
    """The stamp of every file that is read, taken when it was opened."""

    @property
    def files(self) -> set[Path]:
        """Every file that is read."""

    @property
    def fingerprint(self) -> bytes:
        """Bytes that change with anything else the rows depend on, such as a merge recipe."""

    def read(self, tensor: SourceTensor, piece: Piece, start: int, stop: int) -> U8:
        """Rows `start` to `stop` of one piece, as stored: uint8 [rows, row_bytes].

        Rotary tensors must be read in whole heads.
        """
