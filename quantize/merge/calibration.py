"""Passages of a text as token ids: the sample on which the experts' load is balanced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.common.json_files import read_text

PASSAGES, TOKENS = 16, 64
_CHARACTERS = 8 * TOKENS
"""Enough characters for TOKENS tokens in any language; English needs about half as many."""


def passages(path: Path, tokenize: Callable[[str], list[int]]) -> list[list[int]]:
    """PASSAGES passages of TOKENS tokens, evenly spread over a UTF-8 text; fewer if it is short.

    Each starts at the beginning of a word. Raises MergeError.
    """
    text = read_text(path, MergeError).strip()
    if not text:
        raise MergeError(f"{path}: is empty; name a text of the kind that the mixture will process")
    count = min(PASSAGES, -(-len(text) // _CHARACTERS))
    starts = (_word_start(text, len(text) * number // count) for number in range(count))
    return [tokenize(text[start : start + _CHARACTERS])[:TOKENS] for start in starts]


def _word_start(text: str, start: int) -> int:
    """Index of the first word after `start`; `start` itself if no space is near."""
    space = text.find(" ", start, start + _CHARACTERS) if start else -1
    return start if space < 0 else space + 1
