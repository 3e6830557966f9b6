"""Places all over a text, as token ids: what the experts' load is made even over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from franken_gguf.quantize.common.errors import MergeError
from franken_gguf.quantize.common.json_files import read_text

PLACES, TOKENS = 16, 64
_LETTERS = 8 * TOKENS
"""More than TOKENS take in any language; of English about half of it."""


def passages(path: Path, tokenize: Callable[[str], list[int]]) -> list[list[int]]:
    """PLACES passages of TOKENS tokens, evenly spread over a UTF-8 text; fewer of a short one.

    Each begins with a word. Raises MergeError.
    """
    text = read_text(path, MergeError).strip()
    if not text:
        raise MergeError(f"{path}: holds no text; name one of the kind that the mixture is for")
    count = min(PLACES, -(-len(text) // _LETTERS))
    starts = (_word(text, len(text) * place // count) for place in range(count))
    return [tokenize(text[start : start + _LETTERS])[:TOKENS] for start in starts]


def _word(text: str, start: int) -> int:
    """Where the next word begins, if it is near."""
    space = text.find(" ", start, start + _LETTERS) if start else -1
    return start if space < 0 else space + 1
