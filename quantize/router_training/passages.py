"""Texts as passages of tokens: to train routers on, and held out to judge them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.common.errors import CheckpointError

TOKENS = 128
"""Of a passage."""
_HELD_OUT = 16
"""Passages of all texts together that are held out, at least two of each."""
_LEAST = 8
"""Passages that a text needs."""

Passages = NDArray[np.int64]
"""Token ids, [passages, TOKENS]."""


@dataclass(frozen=True)
class TokenText:
    """A text as token ids."""

    name: str
    tokens: Sequence[int]


@dataclass(frozen=True)
class Split:
    """The passages of all texts."""

    training: Passages
    """The texts in turn."""
    held_out: list[Passages]
    """For each text."""


def split(texts: Sequence[TokenText], bos: int | None, wanted: int) -> Split:
    """Up to `wanted` passages to train on, as many of each text, and others to judge by.

    All are spread evenly over their text and start with `bos`, if there is one. Raises
    CheckpointError for a text that is too short.
    """
    each = max(2, -(-_HELD_OUT // len(texts)))
    kept, held_out = [], []
    for text in texts:
        passages = _cut(text, bos)
        held = _spread(len(passages), min(each, len(passages) // 4))
        held_out.append(passages[held])
        rest = np.delete(passages, held, axis=0)
        kept.append(rest[_spread(len(rest), min(-(-wanted // len(texts)), len(rest)))])
    longest = max(map(len, kept))
    # A shorter text starts again, so that every text has its turn to the end.
    turns = [passages[number % len(passages)] for number in range(longest) for passages in kept]
    return Split(np.array(turns), held_out)


def _cut(text: TokenText, bos: int | None) -> Passages:
    count = len(text.tokens) // TOKENS
    if count < _LEAST:
        raise CheckpointError(
            f"{text.name}: has {len(text.tokens):,} tokens, but at least {_LEAST * TOKENS:,} are "
            "needed; give a longer text"
        )
    passages = np.array(text.tokens[: count * TOKENS], np.int64).reshape(count, TOKENS)
    if bos is not None:
        passages[:, 0] = bos
    return passages


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """`count` indices, evenly spread over `length`."""
    return (np.arange(count) * length + length // 2) // count
