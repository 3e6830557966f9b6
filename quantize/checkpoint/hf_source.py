"""A Hugging Face checkpoint as a source: a folder, or weights computed from several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import F32, U8
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.common.files import file_stamp
from franken_gguf.quantize.hub.hub_cache import folder_name
from franken_gguf.quantize.tensor_types.type_choice import PolicyModel, file_order, is_quantizable

from .config import read_config
from .metadata import folder_metadata, rope_freqs
from .model_config import ModelConfig
from .name_mapping import MappedTensor, Piece, SourceTensor, map_tensors
from .named_tensors import Weights
from .safetensors_folder import SafetensorsFolder


class CheckpointSource:
    """A checkpoint of a known family: its weights and the folder of its config files."""

    is_gguf = False

    def __init__(
        self,
        folder: Path,
        weights: Weights,
        *,
        name: str = "",
        tokenizer_folder: Path | None = None,
    ) -> None:
        """`folder` holds config.json, the model card and, by default, the tokenizer.

        Raises CheckpointError, TokenizerError.
        """
        self.name = name or folder_name(folder.resolve()) or "model"
        self.tokenizer_folder: Path | None = tokenizer_folder or folder
        self._weights = weights
        self.stamps = [file_stamp(file) for file in self.files]
        config = read_config(folder)
        self.notices = _notices(folder, config)
        self.model = PolicyModel(config.layers, config.experts, config.heads, config.kv_heads)
        self._computed: dict[str, F32] = {}
        self.tensors = [self._typed(t) for t in map_tensors(config, weights.shapes)]
        if (freqs := rope_freqs(config)) is not None:
            name = "rope_freqs.weight"
            self._computed[name] = freqs
            self.tensors.append(SourceTensor(name, freqs.shape, (Piece(name, 0, 1),)))
            self.tensors.sort(key=lambda tensor: file_order(tensor.name))
        shapes = {tensor.name: tensor.shape for tensor in self.tensors}
        self.metadata = folder_metadata(folder, config, shapes, self.tokenizer_folder)

    @property
    def fingerprint(self) -> bytes:
        """See Source.fingerprint."""
        return b""

    @property
    def files(self) -> set[Path]:
        """The files that hold weights."""
        return self._weights.files

    def read(self, tensor: SourceTensor, piece: Piece, start: int, stop: int) -> U8:
        """See Source.read."""
        if piece.source in self._computed:
            return self._computed[piece.source].reshape(1, -1).view(np.uint8)
        rows = self._weights.read(piece.source, start, stop)
        return _interleaved(rows, tensor) if tensor.rotary_heads else rows

    def _typed(self, tensor: MappedTensor) -> SourceTensor:
        dtypes = {self._weights.dtype(piece.source) for piece in tensor.pieces}
        if len(dtypes) > 1:
            names = " and ".join(sorted(dtype.name for dtype in dtypes))
            raise CheckpointError(
                f"{tensor.name}: its experts are stored in {names}; save the checkpoint "
                "in one dtype"
            )
        (stored,) = dtypes
        # llama.cpp's converter keeps vectors, norms and routers in float32.
        quantizable = is_quantizable(tensor.name, tensor.shape)
        kept = stored if quantizable else GGMLQuantizationType.F32
        return SourceTensor(
            tensor.name, tensor.shape, tensor.pieces, tensor.rotary_heads, stored, kept
        )


def _notices(folder: Path, config: ModelConfig) -> list[str]:
    experts = config.family.experts
    if experts is None or config.normalizes in (None, experts.normalized):
        return []
    does = "scales" if experts.normalized else "does not scale"
    return [
        f"{folder.name}: norm_topk_prob is {str(config.normalizes).lower()}, but llama.cpp's "
        f"{config.family.architecture} {does} the weights of the active experts to a sum of 1: "
        "it answers differently from transformers"
    ]


def folder_source(folder: Path) -> CheckpointSource:
    """Open a Hugging Face folder as a source. Raises CheckpointError, TokenizerError."""
    return CheckpointSource(folder, SafetensorsFolder(folder))


def _interleaved(rows: U8, tensor: SourceTensor) -> U8:
    """Reorder the rows of whole heads, from Hugging Face's rotary halves to llama.cpp's pairs.

    Row t*half + j of a head (t = 0, 1; j < half) becomes row 2*j + t. A bias, [1, row_bytes],
    is treated as a column.
    """
    length = tensor.rows if len(tensor.shape) > 1 else tensor.cols
    half = length // tensor.rotary_heads // 2
    item_bytes = rows.shape[1] if len(tensor.shape) > 1 else rows.shape[1] // length
    heads = rows.reshape(-1, 2, half, item_bytes).swapaxes(1, 2)
    return np.ascontiguousarray(heads).reshape(rows.shape)
