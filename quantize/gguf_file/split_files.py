"""Read a model that gguf-split or `convert --split-max-size` split into several files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from franken_gguf.quantize.common.errors import GGUFError

from .header import Header, read_header

_MOST_PARTS = 1000


def parts(header: Header) -> list[Header]:
    """The headers of all parts of a model, given that of the first (or only) one.

    Raises GGUFError if `header` is not that of the first part, or if a part is missing.
    """
    count = header.integer("split.count", 1)
    if count <= 1:
        return [header]
    first = f"-00001-of-{count:05}.gguf"
    path = header.path
    if count > _MOST_PARTS:
        raise GGUFError(f"{path}: is one of {count} parts; at most {_MOST_PARTS} are supported")
    if not path.name.endswith(first):
        raise GGUFError(f"{path}: is a part of a split model; give the first part, ...{first}")
    stem = path.name.removesuffix(first)
    rest = (f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(2, count + 1))
    headers = [header, *(read_header(path.with_name(name)) for name in rest)]
    names = Counter(tensor.name for part in headers for tensor in part.tensors)
    if names and (twice := max(names, key=names.__getitem__)) and names[twice] > 1:
        raise GGUFError(f"{path}: tensor {twice!r} is in more than one part; download them again")
    return headers


def model_name(path: Path) -> str:
    """The model's name from its file's: the stem, without the number of a part."""
    return re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)


def joined(header: Header) -> Header:
    """`header` with the tensors of all parts of the model.

    A tensor's offset is within its own part. Raises GGUFError as `parts` does.
    """
    headers = parts(header)
    tensors = [tensor for part in headers for tensor in part.tensors]
    file_bytes = sum(part.file_bytes for part in headers)
    return replace(header, tensors=tuple(tensors), file_bytes=file_bytes)
