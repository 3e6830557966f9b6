"""An answer without banned phrases: if one appears, its first token is sampled again."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterator

from franken_gguf.runner.sampling.ban_list import Banned

from .generation import Generation

_TRIES = 20
"""Most tokens disallowed at one position; after that the phrase is let through."""
_CONTEXT = 64
"""Characters before the held text that a regular expression can look at."""


def unbanned(
    generation: Generation, banned: Banned, piece: Callable[[int], bytes]
) -> Iterator[int]:
    """The tokens of `generation`, each as soon as no banned phrase can begin in it.

    The first token of a banned phrase is disallowed at its position, and another is sampled.
    `piece` returns a token's bytes.
    """
    held = Held(piece)
    before, n_released = "", 0
    tries: Counter[int] = Counter()
    for token in generation:
        held.add(token)
        found = banned.look(before + held.text, len(before))
        if found.start is not None:
            first = held.token_at(found.start - len(before))
            tries[n_released + first] += 1
            if tries[n_released + first] <= _TRIES:
                generation.rewind(len(held.tokens) - first)
                held.cut(first)
                continue
            safe = len(held.text)
        else:
            safe = found.safe - len(before)
        text, released = held.release(safe)
        if released:
            yield from released
            generation.release(len(released))
            n_released += len(released)
            before = (before + text)[-_CONTEXT:]
    yield from held.tokens


class Held:
    """Tokens that are held back, and the text of their complete characters."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self.tokens: list[int] = []
        self.text = ""
        self._ends: list[tuple[int, bool]] = []
        """For each token the number of characters begun by its end, and if the last is complete."""

    def add(self, token: int) -> None:
        """Append a token."""
        self.tokens.append(token)
        data = b"".join(map(self._piece, self.tokens))
        self.text, whole = codecs.utf_8_decode(data, "replace", False)
        is_whole = whole == len(data)
        self._ends.append((len(self.text) + (not is_whole), is_whole))

    def token_at(self, character: int) -> int:
        """The index of the token in which the `character`th character begins."""
        return next(n for n, (end, _) in enumerate(self._ends) if character < end)

    def cut(self, count: int) -> None:
        """Keep only the first `count` tokens."""
        tokens, self.tokens, self.text, self._ends = self.tokens[:count], [], "", []
        for token in tokens:
            self.add(token)

    def release(self, safe: int) -> tuple[str, list[int]]:
        """Remove and return text and tokens that end within the first `safe` characters."""
        cuts = [n for n, (end, is_whole) in enumerate(self._ends, 1) if is_whole and end <= safe]
        count = cuts[-1] if cuts else 0
        released, self.tokens = self.tokens[:count], self.tokens[count:]
        length = self._ends[count - 1][0] if count else 0
        text, self.text = self.text[:length], self.text[length:]
        self._ends = [(end - length, is_whole) for end, is_whole in self._ends[count:]]
        return text, released
