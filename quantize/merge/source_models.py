"""The models of a recipe: weights under Hugging Face's names, and checks that they fit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import FORMATS, U8
from franken_gguf.quantize.checkpoint.config import read_config
from franken_gguf.quantize.checkpoint.families.table import FAMILIES
from franken_gguf.quantize.checkpoint.named_tensors import Weights
from franken_gguf.quantize.checkpoint.safetensors_folder import SafetensorsFolder
from franken_gguf.quantize.common.errors import GGUFError, MergeError
from franken_gguf.quantize.common.files import read_at
from franken_gguf.quantize.gguf_file.header import Header, TensorInfo, read_header
from franken_gguf.quantize.gguf_file.split_files import parts

from .extended_vocab import EMBEDDINGS, LM_HEAD
from .lora import LoraWeights
from .recipe_fields import ModelPath

FEED_FORWARD = ("gate_proj", "down_proj", "up_proj")
"""The matrices of a dense feed-forward layer."""
_DENSE = [f.architecture for f in FAMILIES.values() if f.experts is None]
_GGUF_FEED_FORWARD = re.compile(r"blk\.(0|[1-9]\d{0,3})\.ffn_(gate|down|up)\.(weight|bias)")
_GGUF_ATTENTION = re.compile(r"blk\.(0|[1-9]\d{0,3})\.attn_(q|k|v|output)\.weight")
_GGUF_VOCABULARY = {"token_embd.weight": EMBEDDINGS, "output.weight": LM_HEAD}


class Shape(NamedTuple):
    """What must be equal in all models of a merge, under the names of config.json."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int


@dataclass(frozen=True)
class Model:
    """A dense model of a recipe."""

    path: ModelPath
    folder: Path
    """Where its config.json and tokenizer are; for a GGUF file, the file itself."""
    architecture: str
    """llama.cpp's name for its family."""
    shape: Shape
    weights: Weights


def open_model(path: ModelPath) -> Model:
    """Open the model at `path`, reading only headers. Raises a FrankenError."""
    if path.model.is_dir():
        architecture, shape, weights = _folder(path.model)
    elif path.model.is_file():
        architecture, shape, weights = _gguf(path.model)
    else:
        raise MergeError(
            f"{path.model}: neither a folder nor a file; name a model's folder or a GGUF file"
        )
    if path.adapter:
        if not path.adapter.is_dir():
            raise MergeError(f"{path.adapter}: an adapter is a folder saved by PEFT; name one")
        weights = LoraWeights(weights, path.adapter)
    return Model(path, path.model, architecture, shape, weights)


def feed_forward(layer: int, matrix: str) -> str:
    """The name of a matrix of a dense model's feed-forward layer."""
    return f"model.layers.{layer}.mlp.{matrix}.weight"


def check_fits(model: Model, base: Model) -> None:
    """Raise MergeError if the model's feed-forward layers cannot be an expert of `base`."""
    for name, value, required in zip(Shape._fields, model.shape, base.shape, strict=True):
        if value != required:
            raise MergeError(
                f"{model.path}: {name} is {value}, but {required} in {base.path}; only models of "
                "the same shape can be merged"
            )
    shapes = model.weights.shapes
    rows, cols = model.shape.intermediate_size, model.shape.hidden_size
    for layer in range(model.shape.num_hidden_layers):
        for matrix in FEED_FORWARD:
            name = feed_forward(layer, matrix)
            shape = (cols, rows) if matrix == "down_proj" else (rows, cols)
            if shapes.get(name) != shape:
                raise MergeError(
                    f"{model.path}: tensor {name!r} is {list(shapes.get(name, ())) or 'missing'}, "
                    f"expected {list(shape)}; the model is incomplete, download it again"
                )
            if f"{name.removesuffix('weight')}bias" in shapes:
                raise MergeError(
                    f"{model.path}: {name} has a bias, which experts cannot have; use another model"
                )


def _folder(folder: Path) -> tuple[str, Shape, Weights]:
    config = read_config(folder)
    if config.experts:
        raise MergeError(f"{folder}: is a mixture of experts already; merge dense models")
    shape = Shape(
        config.layers, config.hidden_size, config.feed_forward, config.heads, config.kv_heads
    )
    return config.family.architecture, shape, SafetensorsFolder(folder)


def _gguf(path: Path) -> tuple[str, Shape, Weights]:
    headers = parts(read_header(path))
    header = headers[0]
    architecture = header.text("general.architecture")
    if header.integer(f"{architecture}.expert_count", 0):
        raise MergeError(f"{path}: is a mixture of experts already; merge dense models")
    if architecture not in _DENSE:
        raise GGUFError(
            f"{path}: the architecture is {architecture!r}; only "
            f"{', '.join(dict.fromkeys(_DENSE))} can be merged"
        )
    heads = header.integer(f"{architecture}.attention.head_count")
    shape = Shape(
        header.integer(f"{architecture}.block_count"),
        header.integer(f"{architecture}.embedding_length"),
        header.integer(f"{architecture}.feed_forward_length"),
        heads,
        header.integer(f"{architecture}.attention.head_count_kv", heads),
    )
    return architecture, shape, _GGUFWeights(headers)


class _GGUFWeights:
    """A GGUF file's tensors under Hugging Face's names. See Weights.

    Attention tensors have only shapes, for adapters that name them. They cannot be read: their rows
    have another order, and an expert does not need them.
    """

    def __init__(self, headers: list[Header]) -> None:
        """Raises GGUFError for an unsupported tensor type."""
        self._tensors: dict[str, tuple[Path, TensorInfo]] = {}
        self._attention: dict[str, tuple[int, ...]] = {}
        for part in headers:
            for info in part.tensors:
                if found := _GGUF_ATTENTION.fullmatch(info.name):
                    matrix = f"self_attn.{found[2][0]}_proj.weight"
                    self._attention[f"model.layers.{found[1]}.{matrix}"] = info.shape
                name = _GGUF_VOCABULARY.get(info.name)
                if found := _GGUF_FEED_FORWARD.fullmatch(info.name):
                    name = f"model.layers.{found[1]}.mlp.{found[2]}_proj.{found[3]}"
                if name is None:
                    continue
                if info.type.name not in FORMATS:
                    raise GGUFError(
                        f"{part.path}: tensor {info.name!r}: {info.type.name} is not supported"
                    )
                self._tensors[name] = part.path, info

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """See Weights.shapes."""
        return self._attention | {name: info.shape for name, (_, info) in self._tensors.items()}

    @property
    def files(self) -> set[Path]:
        """See Weights.files."""
        return {path for path, _ in self._tensors.values()}

    def dtype(self, name: str) -> GGMLQuantizationType:
        """See Weights.dtype."""
        return self._tensors[name][1].type

    def read(self, name: str, start: int, stop: int) -> U8:
        """See Weights.read."""
        path, info = self._tensors[name]
        row_bytes = FORMATS[info.type.name].row_bytes(info.shape[-1])
        nbytes = (stop - start) * row_bytes
        raw = read_at(path, info.offset + start * row_bytes, nbytes, info.name)
        return raw.reshape(stop - start, row_bytes)
