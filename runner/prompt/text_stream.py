"""Turns streamed tokens into text: whole characters, up to a stop text."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator


def text_of(
    tokens: Iterable[int], piece: Callable[[int], bytes], stops: tuple[str, ...] = ()
) -> Iterator[str]:
    """The text of `tokens` in whole characters, as early as possible, up to any of `stops`.

    `piece` returns a token's bytes. Invalid UTF-8 becomes U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    for token in tokens:
        held += decoder.decode(piece(token))
        found = [held.index(stop) for stop in stops if stop in held]
        if found:
            held = held[: min(found)]
            break
        # The end of the text may be the start of a stop text, so it is held back.
        safe = len(held) - max((_overlap(held, stop) for stop in stops), default=0)
        if safe:
            yield held[:safe]
            held = held[safe:]
    else:
        held += decoder.decode(b"", final=True)
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest suffix of `text` that is a prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
