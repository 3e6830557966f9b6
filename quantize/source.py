"""A source of weights, whatever its form: metadata, GGUF names, and rows on demand."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from .config import read_config
from .errors import CheckpointError, GGUFError
from .files import FileStamp, file_stamp, read_at
from .formats import F32, U8
from .gguf_header import read_header
from .gguf_types import Metadata
from .mapping import MappedTensor, Piece, map_tensors
from .metadata import folder_metadata, rope_freqs
from .recipe import ModelShape, file_order, is_quantizable
from .safetensors_folder import SafetensorsFolder
from .split import model_name, parts


@dataclass(frozen=True)
class SourceTensor(MappedTensor):
    """A tensor of the GGUF to be."""

    stored: GGMLQuantizationType = GGMLQuantizationType.F32
    """The type its rows have in the source."""
    kept: GGMLQuantizationType = GGMLQuantizationType.F32
    """The type it is written in where the recipe does not quantize it."""


class Source(Protocol):
    """What `convert` needs of a checkpoint, a GGUF file or a recipe."""

    name: str
    metadata: Metadata
    model: ModelShape
    tensors: list[SourceTensor]
    """In llama-quantize's order: by layer, then by name."""
    is_gguf: bool

    stamps: list[FileStamp]
    """Of every file that is read, when it was opened."""

    @property
    def files(self) -> set[Path]:
        """Every file that is read."""

    def read(self, tensor: SourceTensor, piece: Piece, start: int, stop: int) -> U8:
        """Rows `start` to `stop` of one piece, as stored: uint8 [rows, row_bytes].

        Rotary tensors are read by whole heads. A source can be pickled, so that other processes
        read from it too.
        """


def open_source(path: Path) -> Source:
    """The source at `path`: a Hugging Face folder or a GGUF file.

    Reads headers and tokenizer files alone. Raises a FrankenError.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.is_file():
        return GGUFSource(path)
    raise CheckpointError(f"{path}: no such file or folder")


class FolderSource:
    """A Hugging Face folder of Mixtral, Llama or Mistral architecture."""

    is_gguf = False

    def __init__(self, path: Path) -> None:
        self.name = path.resolve().name or "model"
        self._weights = SafetensorsFolder(path)
        self.stamps = [file_stamp(file) for file in self.files]
        config = read_config(path)
        self.model = ModelShape(config.layers, config.experts, config.heads, config.kv_heads)
        self._computed: dict[str, F32] = {}
        self.tensors = [self._typed(t) for t in map_tensors(config, self._weights.shapes)]
        if (freqs := rope_freqs(config)) is not None:
            name = "rope_freqs.weight"
            self._computed[name] = freqs
            self.tensors.append(SourceTensor(name, freqs.shape, (Piece(name, 0, 1),)))
            self.tensors.sort(key=lambda tensor: file_order(tensor.name))
        shapes = {tensor.name: tensor.shape for tensor in self.tensors}
        self.metadata = folder_metadata(path, config, shapes)

    @property
    def files(self) -> set[Path]:
        """The safetensors files."""
        return self._weights.files

    def read(self, tensor: SourceTensor, piece: Piece, start: int, stop: int) -> U8:
        """See Source.read."""
        if piece.source in self._computed:
            return self._computed[piece.source].reshape(1, -1).view(np.uint8)
        rows = self._weights.read(piece.source, start, stop)
        return _interleaved(rows, tensor) if tensor.rotary_heads else rows

    def _typed(self, tensor: MappedTensor) -> SourceTensor:
        dtypes = {self._weights.tensors[piece.source].dtype for piece in tensor.pieces}
        if len(dtypes) > 1:
            raise CheckpointError(
                f"{tensor.name}: its experts are stored as {' and '.join(sorted(dtypes))}; save "
                "the checkpoint in one dtype"
            )
        stored = GGMLQuantizationType[dtypes.pop()]
        # llama.cpp's converter keeps vectors, norms and routers in float32.
        quantizable = is_quantizable(tensor.name, tensor.shape)
        kept = stored if quantizable else GGMLQuantizationType.F32
        return SourceTensor(
            tensor.name, tensor.shape, tensor.pieces, tensor.rotary_heads, stored, kept
        )


class GGUFSource:
    """A GGUF file of the architecture `llama`, or the first of several, to be quantized again."""

    is_gguf = True

    def __init__(self, path: Path) -> None:
        headers = parts(read_header(path))
        header = headers[0]
        self.stamps = [file_stamp(part.path) for part in headers]
        architecture = header.text("general.architecture")
        if architecture != "llama":
            raise GGUFError(
                f"{path}: the architecture {architecture!r} is not converted; only 'llama' is "
                "(Llama, Mistral and Mixtral models)"
            )
        heads = header.integer("llama.attention.head_count")
        kv_heads = header.integer("llama.attention.head_count_kv", heads)
        if heads < 1 or kv_heads < 1:
            raise GGUFError(f"{path}: llama.attention.head_count is {heads} and {kv_heads}")
        self._places = {
            tensor.name: (part.path, tensor.offset) for part in headers for tensor in part.tensors
        }
        self.name = model_name(path)
        self.metadata = header.metadata
        self.model = ModelShape(
            header.integer("llama.block_count"),
            header.integer("llama.expert_count", 0),
            heads,
            kv_heads,
        )
        self.tensors = [
            SourceTensor(
                info.name, info.shape, _matrices(info.name, info.shape), 0, info.type, info.type
            )
            for part in headers
            for info in part.tensors
        ]
        self.tensors.sort(key=lambda tensor: file_order(tensor.name))

    @property
    def files(self) -> set[Path]:
        """The GGUF file, or all parts of it."""
        return {path for path, _ in self._places.values()}

    def read(self, tensor: SourceTensor, piece: Piece, start: int, stop: int) -> U8:
        """See Source.read."""
        block_len, block_bytes = GGML_QUANT_SIZES[tensor.stored]
        row_bytes = tensor.cols // block_len * block_bytes
        path, offset = self._places[piece.source]
        nbytes = (stop - start) * row_bytes
        raw = read_at(path, offset + start * row_bytes, nbytes, tensor.name)
        return raw.reshape(stop - start, row_bytes)


def _matrices(name: str, shape: tuple[int, ...]) -> tuple[Piece, ...]:
    rows = shape[-2] if len(shape) > 1 else 1
    return tuple(Piece(name, rows * i, rows * (i + 1)) for i in range(prod(shape[:-2])))


def _interleaved(rows: U8, tensor: SourceTensor) -> U8:
    """Whole heads from Hugging Face's half-split rotary layout to llama.cpp's pairs.

    Row t*half + j of a head (t = 0, 1; j < half) becomes row 2*j + t. A bias, [1, row_bytes],
    is treated as a column.
    """
    length = tensor.rows if len(tensor.shape) > 1 else tensor.cols
    half = length // tensor.rotary_heads // 2
    item_bytes = rows.shape[1] if len(tensor.shape) > 1 else rows.shape[1] // length
    heads = rows.reshape(-1, 2, half, item_bytes).swapaxes(1, 2)
    return np.ascontiguousarray(heads).reshape(rows.shape)
