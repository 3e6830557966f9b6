"""Reads the text chunks of a PNG file, even if other parts of it are damaged; pure.

A PNG is a signature and then chunks:

    length  4 bytes, big-endian, of the data alone
    type    4 letters
    data    tEXt: keyword NUL text
            zTXt: keyword NUL method(0) deflated text
            iTXt: keyword NUL is_deflated method language NUL keyword_in_it NUL text
    CRC-32  4 bytes, of type and data

(Portable Network Graphics, third edition, 5.3 and 11.3.3.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from .card_fields import MAX_JSON_BYTES, StoryError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 1 << 16
_MAX_TEXT = MAX_JSON_BYTES * 4 // 3 + 4  # in base64


def texts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Keyword and raw data of each text chunk; `text` unpacks the data.

    If the file ends in the middle of a chunk, only the chunks before it.
    """
    place = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if len(data) - place < 12:
            return
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 8 + length
        if end + 4 > len(data) or kind == b"IEND":
            return
        if kind in _OPENERS:
            chunk = data[place + 4 : end + 4]
            keyword = chunk[4:-4][:80].partition(b"\0")[0]
            yield keyword.decode("latin-1"), chunk
        place = end + 4


def text(chunk: bytes) -> bytes:
    """The text in the data of one chunk. Raises StoryError if it is damaged or too large."""
    body, crc = chunk[:-4], int.from_bytes(chunk[-4:], "big")
    if zlib.crc32(body) != crc:
        raise StoryError("its checksum is wrong: the file is damaged")
    _, found, rest = body[4:].partition(b"\0")
    if not found:
        raise StoryError("it has no text after its keyword")
    return _OPENERS[body[:4]](rest)


def _latin(rest: bytes) -> bytes:
    return rest


def _deflated(rest: bytes) -> bytes:
    if rest[:1] != b"\0":
        raise StoryError("its compression is unknown")
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(rest[1:], _MAX_TEXT + 1)
    except zlib.error:
        raise StoryError("its compressed text is damaged") from None
    if len(found) > _MAX_TEXT:
        raise StoryError(f"it unpacks to more than {_MAX_TEXT >> 20} MiB")
    if not stream.eof:
        raise StoryError("its compressed text is cut off")
    return found


def _international(rest: bytes) -> bytes:
    is_deflated, method, rest = rest[:1], rest[1:2], rest[2:]
    found = rest.split(b"\0", 2)
    if len(found) < 3:
        raise StoryError("it is cut off")
    return _deflated(method + found[2]) if is_deflated == b"\1" else found[2]


_OPENERS = {b"tEXt": _latin, b"zTXt": _deflated, b"iTXt": _international}
