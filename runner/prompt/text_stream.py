"""Turns streamed tokens into text: whole characters, up to a stop text."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass


def text_of(
    tokens: Iterable[int], piece: Callable[[int], bytes], stops: tuple[str, ...] = ()
) -> Iterator[str]:
    """The text of `tokens`, each part as soon as it is whole; see TokenText."""
    return (one.text for one in TokenText(tokens, piece, stops) if one.text)


@dataclass(frozen=True)
class Spelled:
    """A token and the characters that its bytes complete, perhaps none."""

    token: int
    text: str


class TokenText:
    """Each of `tokens` with its text, as soon as that is whole, up to any of `stops`.

    `piece` gives a token's bytes. Bytes that are not UTF-8 become U+FFFD. A token in which a stop
    text begins has only the text before it; tokens after that are left out.
    """

    def __init__(
        self, tokens: Iterable[int], piece: Callable[[int], bytes], stops: tuple[str, ...] = ()
    ) -> None:
        self.stopped_by = ""
        """The stop text that ended the answer."""
        self._tokens = tokens
        self._piece = piece
        self._stops = tuple(filter(None, stops))
        self._held: list[Spelled] = []

    def __iter__(self) -> Iterator[Spelled]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in self._tokens:
            self._held.append(Spelled(token, decoder.decode(self._piece(token))))
            text = "".join(one.text for one in self._held)
            found = [(text.index(stop), stop) for stop in self._stops if stop in text]
            if found:
                place, self.stopped_by = min(found)
                rest = yield from self._release(place)
                if rest:
                    yield Spelled(self._held[0].token, self._held[0].text[:rest])
                return
            # The end of what came may be the start of a stop: it waits for the rest.
            overlap = max((_overlap(text, stop) for stop in self._stops), default=0)
            yield from self._release(len(text) - overlap, is_whole=not decoder.getstate()[0])
        if self._held:
            last = self._held[-1]
            yield from self._held[:-1]
            yield Spelled(last.token, last.text + decoder.decode(b"", final=True))

    def _release(self, count: int, *, is_whole: bool = True) -> Generator[Spelled, None, int]:
        """Yield and drop the held tokens within the first `count` characters; return the rest.

        The last token stays unless it `is_whole`: its bytes end with a whole character.
        """
        released = 0
        for one in self._held if is_whole else self._held[:-1]:
            if len(one.text) > count:
                break
            count -= len(one.text)
            released += 1
            yield one
        del self._held[:released]
        return count


def _overlap(text: str, stop: str) -> int:
    """The length of the longest suffix of `text` that is a prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
