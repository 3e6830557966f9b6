"""Compiles untrusted regular expressions, with bounds on time and memory.

Callers bound the time of a search with the `regex` library's `timeout`.
"""

from __future__ import annotations

import re
from math import prod

import regex

from franken_gguf.quantize.common.errors import FrankenError

_MAX_CHARACTERS = 1000
_COUNT = re.compile(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}")
# Compiling expands nested counts: ((a{1000}){1000}){1000} takes all memory. Their product is the
# worst case; this many repeats take a tenth of a second.
_MAX_REPEATS = 100_000


class ExpressionError(FrankenError):
    """A regular expression is invalid or too large."""


def compiled(source: str, flags: int = 0) -> regex.Pattern[str]:
    """`source` as a pattern of the `regex` library. Raises ExpressionError."""
    if len(source) > _MAX_CHARACTERS:
        raise ExpressionError(f"it is longer than {_MAX_CHARACTERS} characters")
    if _repeats(source) > _MAX_REPEATS:
        raise ExpressionError(f"its nested counts repeat more than {_MAX_REPEATS} times")
    try:
        return regex.compile(source, flags)
    except regex.error as error:
        raise ExpressionError(str(error)) from None
    except (RecursionError, OverflowError, ValueError):
        raise ExpressionError("it is too large") from None


def _repeats(source: str) -> int:
    counts = (max(int(number or 1) for number in bounds) for bounds in _COUNT.findall(source))
    return prod(max(1, count) for count in counts)
