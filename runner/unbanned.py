"""An answer without banned phrases: where one comes, the answer goes back to its first token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from .banned import Banned
from .engine import Generation

_TRIES = 20
"""Tokens that are barred at one place at most; then the phrase is let through."""
_CONTEXT = 64
"""Characters before what is held back that an expression may look at."""


def unbanned(
    generation: Generation, banned: Banned, piece: Callable[[int], bytes]
) -> Iterator[int]:
    """The tokens of `generation`, each once no phrase can begin in it any more.

    The token that begins a banned phrase is barred at its place, and another is drawn. `piece`
    gives a token's bytes.
    """
    held: list[int] = []
    ends: list[int] = []  # of each held token, in characters
    before, said = "", 0
    tries: Counter[int] = Counter()
    for token in generation:
        held.append(token)
        text = b"".join(map(piece, held)).decode(errors="replace")
        ends.append(len(text))
        found = banned.look(before + text, len(before))
        if found.start is not None:
            first = _token_at(ends, found.start - len(before))
            tries[said + first] += 1
            if tries[said + first] <= _TRIES:
                generation.take_back(len(held) - first)
                del held[first:], ends[first:]
                continue
            released = len(held)
        else:
            released = sum(end <= found.safe - len(before) for end in ends)
        if released:
            yield from held[:released]
            generation.release(released)
            said += released
            before = (before + text[: ends[released - 1]])[-_CONTEXT:]
            del held[:released]
            rest = ends[released - 1]
            ends = [end - rest for end in ends[released:]]
    yield from held


def _token_at(ends: list[int], character: int) -> int:
    """The index of the token in which a character stands."""
    return next(n for n, end in enumerate(ends) if character < end)
