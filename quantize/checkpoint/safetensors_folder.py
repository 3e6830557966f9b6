"""The tensors of a folder of safetensors, whose rows are read on demand."""

from __future__ import annotations

import json
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from gguf import GGMLQuantizationType

from franken_gguf.quantize.blocks.formats import U8
from franken_gguf.quantize.common.errors import CheckpointError
from franken_gguf.quantize.common.files import not_the_file, read_at
from franken_gguf.quantize.common.json_files import read_text

# safetensors' own limit on its JSON header.
MAX_HEADER_BYTES = 100_000_000

_ITEM_BYTES = {"BF16": 2, "F16": 2, "F32": 4}


class SafetensorsFolder:
    """The tensors of a Hugging Face folder: one file, or shards with an index.

    Only headers are read until `read` is called. Format: a little-endian uint64 with the
    length of a JSON object {name: {dtype, shape, data_offsets}}, the object, the data
    (https://github.com/huggingface/safetensors#format).
    """

    def __init__(self, folder: Path, stem: str = "model") -> None:
        """The files are <stem>.safetensors or shards of it. Raises CheckpointError."""
        self.tensors: dict[str, _Tensor] = {}
        for file, expected in _files(folder, stem).items():
            tensors = _read_header(file)
            for name in expected:
                if name not in tensors:
                    raise CheckpointError(
                        f"{file}: tensor {name!r} is missing, although the index lists it here; "
                        "download this shard again"
                    )
            for name, tensor in tensors.items():
                if name in self.tensors:
                    other = self.tensors[name].file.name
                    raise CheckpointError(
                        f"{file}: tensor {name!r} is also in {other}; download the shards again"
                    )
                self.tensors[name] = tensor

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape, in numpy order."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    @property
    def files(self) -> set[Path]:
        """The files that hold the tensors."""
        return {tensor.file for tensor in self.tensors.values()}

    def dtype(self, name: str) -> GGMLQuantizationType:
        """The type of a tensor's rows: BF16, F16 or F32."""
        return GGMLQuantizationType[self.tensors[name].dtype]

    def read(self, name: str, start: int, stop: int) -> U8:
        """Rows `start` to `stop` (all axes but the last, flattened): uint8 [rows, row_bytes]."""
        tensor = self.tensors[name]
        row_bytes = tensor.cols * _ITEM_BYTES[tensor.dtype]
        offset = tensor.offset + start * row_bytes
        raw = read_at(tensor.file, offset, (stop - start) * row_bytes, name)
        return raw.reshape(stop - start, row_bytes)


class _Tensor:
    def __init__(self, file: Path, dtype: str, shape: tuple[int, ...], offset: int) -> None:
        self.file = file
        self.dtype = dtype
        self.shape = shape
        self.offset = offset
        self.nbytes = prod(shape) * _ITEM_BYTES[dtype]
        self.cols = shape[-1] if shape else 1


def _files(folder: Path, stem: str) -> dict[Path, list[str]]:
    """The safetensors files, each with the names of the tensors that the index lists in it."""
    index = folder / f"{stem}.safetensors.index.json"
    single = folder / f"{stem}.safetensors"
    if index.is_file():
        files: dict[Path, list[str]] = {}
        for name, file_name in _weight_map(index).items():
            # The index is untrusted: it may only name files in its own folder.
            if not isinstance(file_name, str) or Path(file_name).name != file_name:
                raise CheckpointError(f"{index}: {name!r} is not mapped to a file of this folder")
            files.setdefault(folder / file_name, []).append(name)
        for file in files:
            if not file.is_file():
                raise CheckpointError(
                    f"{file}: this shard is missing, although {index.name} lists it; download it"
                )
        return files
    if single.is_file():
        return {single: []}
    if any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder}: has .safetensors files, but neither {single.name} nor {index.name}; "
            "download the whole folder"
        )
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise CheckpointError(
            f"{folder}: has only pickled weights (*.bin), which can run code when they are loaded, "
            "and are never read; use a copy with model.safetensors, or have transformers write it: "
            "save_pretrained(FOLDER, safe_serialization=True)"
        )
    if gguf := min(folder.glob("*.gguf"), default=None):
        raise CheckpointError(
            f"{folder}: has no {single.name}, but GGUF files; give one, such as {gguf}"
        )
    raise CheckpointError(f"{folder}: has no {single.name}; give the folder of a model")


def _weight_map(index: Path) -> dict[str, Any]:
    try:
        weight_map = json.loads(read_text(index, CheckpointError))["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(
            f"{index}: not a JSON object with a weight_map; download it again"
        ) from None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: its weight_map is empty; download it again")
    return weight_map


def _read_header(file: Path) -> dict[str, _Tensor]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if why := not_the_file(start + stream.read(30)):
            raise CheckpointError(f"{file}: not a safetensors file: {why}")
        stream.seek(8)
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise CheckpointError(
                f"{file}: the header's length is {length} bytes, but the file has {size}; it is "
                "truncated or not a safetensors file, download it again"
            )
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: the header is not a JSON object; download it again")
    header.pop("__metadata__", None)
    data = 8 + length
    tensors = {name: _tensor(file, name, entry, data) for name, entry in header.items()}
    _check_layout(file, tensors, size)
    return tensors


def _tensor(file: Path, name: str, entry: Any, data: int) -> _Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]}:
            pass
        case _:
            raise CheckpointError(
                f"{file}: tensor {name!r} has no valid dtype, shape or data_offsets; "
                "download it again"
            )
    if dtype not in _ITEM_BYTES:
        raise CheckpointError(
            f"{file}: tensor {name!r} is {dtype[:16]}; only BF16, F16 and F32 are supported"
        )
    if not all(type(n) is int and 0 < n < 1 << 48 for n in shape) or len(shape) > 4:
        raise CheckpointError(f"{file}: tensor {name!r} has the invalid shape {shape[:8]}")
    tensor = _Tensor(file, dtype, tuple(shape), data + start)
    if stop - start != tensor.nbytes or start < 0:
        raise CheckpointError(
            f"{file}: tensor {name!r} is {dtype} {shape}, {tensor.nbytes} bytes, but its offsets "
            f"span {stop - start}; the header is damaged, download it again"
        )
    return tensor


def _check_layout(file: Path, tensors: dict[str, _Tensor], size: int) -> None:
    by_offset = sorted(tensors.items(), key=lambda item: item[1].offset)
    for (name, tensor), (other, following) in pairwise(by_offset):
        if tensor.offset + tensor.nbytes > following.offset:
            raise CheckpointError(
                f"{file}: tensors {name!r} and {other!r} overlap; the header is damaged, "
                "download it again"
            )
    if by_offset:
        name, last = by_offset[-1]
        if last.offset + last.nbytes > size:
            raise CheckpointError(
                f"{file}: tensor {name!r} ends at byte {last.offset + last.nbytes}, but the "
                f"file ends at {size}; it is truncated, download it again"
            )
