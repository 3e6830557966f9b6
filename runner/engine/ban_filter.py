"""An answer without banned phrases: where one comes, the answer goes back to its first token."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterator

from franken_gguf.runner.sampling.ban_list import Banned

from .generation import Generation

_TRIES = 20
"""Tokens that are disallowed at one place at most; then the phrase is let through."""
_CONTEXT = 64
"""Characters before what is held back that an expression may look at."""


def unbanned(
    generation: Generation, banned: Banned, piece: Callable[[int], bytes]
) -> Iterator[int]:
    """The tokens of `generation`, each once no phrase can begin in it any more.

    The token that begins a banned phrase is disallowed at its place, and another is drawn. `piece`
    gives a token's bytes.
    """
    held = Held(piece)
    before, said = "", 0
    tries: Counter[int] = Counter()
    for token in generation:
        held.add(token)
        found = banned.look(before + held.text, len(before))
        if found.start is not None:
            first = held.token_at(found.start - len(before))
            tries[said + first] += 1
            if tries[said + first] <= _TRIES:
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
            said += len(released)
            before = (before + text)[-_CONTEXT:]
    yield from held.tokens


class Held:
    """Tokens that are held back, and their text as far as its characters are whole."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self.tokens: list[int] = []
        self.text = ""
        self._ends: list[tuple[int, bool]] = []
        """Of each token: the characters begun by its end, and whether the last is whole."""

    def add(self, token: int) -> None:
        """Hold one more."""
        self.tokens.append(token)
        data = b"".join(map(self._piece, self.tokens))
        self.text, whole = codecs.utf_8_decode(data, "replace", False)
        is_whole = whole == len(data)
        self._ends.append((len(self.text) + (not is_whole), is_whole))

    def token_at(self, character: int) -> int:
        """The index of the token in which a character begins."""
        return next(n for n, (end, _) in enumerate(self._ends) if character < end)

    def cut(self, count: int) -> None:
        """Keep the first `count` tokens alone."""
        tokens, self.tokens, self.text, self._ends = self.tokens[:count], [], "", []
        for token in tokens:
            self.add(token)

    def release(self, safe: int) -> tuple[str, list[int]]:
        """Hand out the tokens of the first `safe` characters, as far as those are whole."""
        cuts = [n for n, (end, is_whole) in enumerate(self._ends, 1) if is_whole and end <= safe]
        count = cuts[-1] if cuts else 0
        released, self.tokens = self.tokens[:count], self.tokens[count:]
        length = self._ends[count - 1][0] if count else 0
        text, self.text = self.text[:length], self.text[length:]
        self._ends = [(end - length, is_whole) for end, is_whole in self._ends[count:]]
        return text, released
