"""A model in several files read as one, as gguf-split and `convert --split-max-size` cut it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from franken_gguf.quantize.common.errors import GGUFError

from .header import Header, read_header

_MOST_PARTS = 1000


def parts(header: Header) -> list[Header]:
    """The headers of all files of the model whose first one `header` is, itself among them.

    Raises GGUFError where it is another than the first, or where one is missing.
    """
    count = header.integer("split.count", 1)
    if count <= 1:
        return [header]
    first = f"-00001-of-{count:05}.gguf"
    path = header.path
    if count > _MOST_PARTS:
        raise GGUFError(f"{path}: is one of {count} parts, more than {_MOST_PARTS}")
    if not path.name.endswith(first):
        raise GGUFError(f"{path}: is a part of a split model; name the first, ...{first}")
    stem = path.name.removesuffix(first)
    rest = (f"{stem}-{number:05}-of-{count:05}.gguf" for number in range(2, count + 1))
    headers = [header, *(read_header(path.with_name(name)) for name in rest)]
    names = Counter(tensor.name for part in headers for tensor in part.tensors)
    if names and (twice := max(names, key=names.__getitem__)) and names[twice] > 1:
        raise GGUFError(f"{path}: tensor {twice!r} stands in more than one part; fetch them again")
    return headers


def model_name(path: Path) -> str:
    """The name of the model in a file: its stem, without a part's number."""
    return re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)


def joined(header: Header) -> Header:
    """`header` with the tensors of all parts, where it is the first of several.

    A tensor's offset is that in its own part. Raises GGUFError as `parts` does.
    """
    headers = parts(header)
    tensors = [tensor for part in headers for tensor in part.tensors]
    file_bytes = sum(part.file_bytes for part in headers)
    return replace(header, tensors=tuple(tensors), file_bytes=file_bytes)
