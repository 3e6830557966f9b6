"""Texts to chunks of tokens, cut and mixed as an importance matrix reads them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

Chunk = list[int]


def cut(tokens: Sequence[int], size: int, bos: int | None) -> list[Chunk]:
    """The whole chunks of `size` tokens; `bos`, if any, replaces the first token of each.

    A rest is dropped, as llama.cpp's imatrix tool does.
    """
    chunks = [list(tokens[at : at + size]) for at in range(0, len(tokens) - size + 1, size)]
    return [chunk if bos is None else [bos, *chunk[1:]] for chunk in chunks]


def interleaved(texts: Sequence[Sequence[Chunk]]) -> list[Chunk]:
    """The chunks of all texts in turn: the first of each, then the second of each."""
    return [chunk for row in zip_longest(*texts) for chunk in row if chunk is not None]


def split_off(chunks: Sequence[Chunk], every: int) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks to calibrate on, and every `every`-th of all, held out to judge on; 0 for none."""
    held = [chunk for number, chunk in enumerate(chunks, 1) if every and number % every == 0]
    kept = [chunk for number, chunk in enumerate(chunks, 1) if not every or number % every]
    return kept, held
