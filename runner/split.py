"""One header for a model in several files, as gguf-split and `convert --split-max-size` cut it."""

from __future__ import annotations

from dataclasses import replace

from franken_gguf.quantize.errors import GGUFError
from franken_gguf.quantize.gguf_header import Header, read_header

_MOST_PARTS = 1000


def joined(header: Header) -> Header:
    """`header` with the tensors of all parts, where it is the first of several.

    Raises GGUFError where it is another, or where a part is missing.
    """
    count = header.integer("split.count", 1)
    if count <= 1:
        return header
    first = f"-00001-of-{count:05}.gguf"
    path = header.path
    if count > _MOST_PARTS:
        raise GGUFError(f"{path}: is one of {count} parts, more than {_MOST_PARTS}")
    if not path.name.endswith(first):
        raise GGUFError(f"{path}: is a part of a split model; name the first, ...{first}")
    stem = path.name.removesuffix(first)
    rest = [
        read_header(path.with_name(f"{stem}-{number:05}-of-{count:05}.gguf"))
        for number in range(2, count + 1)
    ]
    tensors = [tensor for part in rest for tensor in part.tensors]
    return replace(
        header,
        tensors=(*header.tensors, *tensors),
        file_bytes=header.file_bytes + sum(part.file_bytes for part in rest),
    )
