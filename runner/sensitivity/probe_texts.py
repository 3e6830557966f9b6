"""The passages on which a model is tested: a few sentences each of several kinds."""

from __future__ import annotations

from pathlib import Path

from franken_gguf.quantize.common.errors import RecipeError
from franken_gguf.quantize.common.json_files import read_text

BUILT_IN = (
    "The ferry had not run for three days, and the innkeeper no longer counted the guests who "
    "slept on his floor. On the fourth morning a girl came down from the hills with a goat.",
    '"You cannot mean that," said Clara. "I mean every word," he answered, "and if you had read '
    'the letter instead of burning it, you would know why I came back so late."',
    "A train leaves at nine and needs four hours for 300 miles. To find its speed, divide the "
    "distance by the time: 300 / 4 = 75, so the train travels at 75 miles per hour.",
)
_LETTERS = 1 << 10
"""Of a passage: more than are used of any."""


def passages_of(file: Path) -> tuple[str, ...]:
    """As many passages of a UTF-8 text, evenly spread. Raises RecipeError."""
    text = read_text(file, RecipeError).strip()
    if "\0" in text:
        raise RecipeError(f"{file}: is not a text; give a UTF-8 text file")
    starts = (len(text) * n // len(BUILT_IN) for n in range(len(BUILT_IN)))
    return tuple(text[start : start + _LETTERS].partition(" ")[2] for start in starts)
