"""A GGUF file as a source, to be requantized or copied."""

from __future__ import annotations

from math import prod
from pathlib import Path

from gguf import GGML_QUANT_SIZES

from franken_gguf.quantize.blocks.formats import U8
from franken_gguf.quantize.common.errors import GGUFError
from franken_gguf.quantize.common.files import file_stamp, read_at
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.gguf_file.split_files import model_name, parts
from franken_gguf.quantize.tensor_types.type_choice import PolicyModel, file_order

from .families.table import ARCHITECTURES
from .name_mapping import Piece, SourceTensor


class GGUFSource:
    """A GGUF of a family that is known; of a split model, its first file. Raises GGUFError."""

    is_gguf = True
    tokenizer_folder: Path | None = None
    fingerprint = b""

    def __init__(self, path: Path) -> None:
        headers = parts(read_header(path))
        header = headers[0]
        self.stamps = [file_stamp(part.path) for part in headers]
        architecture = header.text("general.architecture")
        if architecture not in ARCHITECTURES:
            raise GGUFError(
                f"{path}: the architecture {architecture!r} is not supported; only "
                f"{', '.join(ARCHITECTURES)} are"
            )
        heads = header.integer(f"{architecture}.attention.head_count")
        kv_heads = header.integer(f"{architecture}.attention.head_count_kv", heads)
        if heads < 1 or kv_heads < 1:
            raise GGUFError(
                f"{path}: {architecture}.attention.head_count {heads} and head_count_kv {kv_heads} "
                "must be at least 1; the file is damaged"
            )
        self._places = {
            tensor.name: (part.path, tensor.offset) for part in headers for tensor in part.tensors
        }
        self.name = model_name(path)
        self.notices: list[str] = []
        self.metadata = header.metadata
        self.model = PolicyModel(
            header.integer(f"{architecture}.block_count"),
            header.integer(f"{architecture}.expert_count", 0),
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
