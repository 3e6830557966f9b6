"""Grapheme clusters, the characters that readers see: their width, and tokens grouped by them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from wcwidth import iter_graphemes, wcswidth

NEWLINE_MARK = "↵"


def columns(text: str) -> int:
    """The width of `text` in terminal columns; control characters have none."""
    return max(0, wcswidth(text))


def extends(cluster: str, character: str) -> bool:
    """Whether `character` extends the cluster before it, as an accent or after a joiner does."""
    if cluster.isascii() and character.isascii():
        return False
    return bool(cluster) and len(list(iter_graphemes(cluster + character))) == 1


def beginning(text: str, length: int) -> str:
    """The first `length` clusters of `text`, with "..." if there are more."""
    clusters = list(iter_graphemes(text[: 20 * length]))
    if len(clusters) <= length:
        return text[: 20 * length]
    return "".join(clusters[:length]).rstrip() + "..."


def spelled(piece: bytes) -> str:
    """A token as one line: newlines as ↵, incomplete characters in hex, as llama.cpp shows them."""
    try:
        return piece.decode().replace("\n", NEWLINE_MARK)
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in piece)


@dataclass(frozen=True)
class Whole:
    """The bytes of whole clusters and the indices of their tokens, `first` up to but not `end`."""

    piece: bytes
    first: int
    end: int

    @property
    def text(self) -> str:
        """The bytes as text; invalid UTF-8 becomes U+FFFD."""
        return self.piece.decode(errors="replace")


def in_whole(pieces: Sequence[bytes]) -> list[Whole]:
    """Tokens, given by their bytes, joined if they share a cluster, such as an emoji."""
    found: list[Whole] = []
    for place, piece in enumerate(pieces):
        found.append(Whole(piece, place, place + 1))
        while len(found) > 1 and _are_one(found[-2].piece, found[-1].piece):
            last = found.pop()
            found[-1] = Whole(found[-1].piece + last.piece, found[-1].first, last.end)
    return found


def _are_one(before: bytes, after: bytes) -> bool:
    """Whether a cluster begins in `before` and ends in `after`."""
    if before.isascii() and after.isascii():
        return False
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(before)
    if decoder.getstate()[0]:
        return True
    follows = codecs.getincrementaldecoder("utf-8")("replace").decode(after)
    parts = len(list(iter_graphemes(text))) + len(list(iter_graphemes(follows)))
    return len(list(iter_graphemes(text + follows))) < parts
