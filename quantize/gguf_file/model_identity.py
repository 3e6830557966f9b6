"""A hash of a model's content: the same for a copy, wherever it is and whatever it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from .header import Header
from .split_files import parts

_SAMPLES, _SAMPLE_BYTES = 64, 4096
_HEX_DIGITS = 24


def identity(header: Header) -> str:
    """A hash of the size, header and samples of the weights of each of a model's files.

    Raises GGUFError, OSError.
    """
    found = hashlib.sha256()
    for part in parts(header):
        found.update(repr(part.path.stat().st_size).encode())
        for piece in samples(part):
            found.update(piece)
    return found.hexdigest()[:_HEX_DIGITS]


def samples(header: Header) -> Iterator[bytes]:
    """The bytes of one file's header, then 64 samples of its weights. Raises OSError."""
    size = header.path.stat().st_size
    start = min((tensor.offset for tensor in header.tensors), default=size)
    step = max(1, (size - start) // _SAMPLES)
    with header.path.open("rb") as file:
        yield file.read(start)
        for place in range(start, size, step):
            file.seek(place)
            yield file.read(_SAMPLE_BYTES)
