"""One answer as it is drawn, token by token, with a way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from franken_gguf.runner.crash.flight_recorder import ANSWERING, recorder

from .interrupt import Stopped
from .sampler import Sampler
from .token_probs import Odds, odds

if TYPE_CHECKING:
    from .engine import Engine

Routes = dict[int, tuple[int, ...]]
"""Layer to the experts that a token went to, the likeliest first."""


class Generation:
    """One answer: iterate over it for the token ids; its figures are right at any time.

    The end token is not among them. `finish` is "stop" (the model or who iterates ended it),
    "length" (max_tokens), "context" (it is full) or "interrupted". Tokens that came may be taken
    back while it goes on, where it was made so.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: list[int],
        sampler: Sampler,
        max_tokens: int | None,
        can_rewind: bool,
        records: bool,
    ) -> None:
        self.finish = "stop"
        self.end_token: int | None = None
        """What the model ended the answer with, if it did."""
        self.n_ctx = engine.n_ctx
        self.prompt_tokens = len(prompt)
        self.prompt_evaluated = 0
        self.prompt_reused = 0
        self.prompt_seconds = 0.0
        self.taken: list[int] = []
        """The tokens of the answer."""
        self.rewound = 0
        """Tokens that came and had to go."""
        self.odds: list[Odds] = []
        """Of each token, where it records."""
        self.routes: list[Routes] = []
        """Of each token but perhaps the last, where it records and a probe records routing."""
        self.seconds = 0.0
        """From the first token's end to the last's."""
        self._engine = engine
        self._prompt = prompt
        self._sampler = sampler
        self._room = engine.n_ctx - len(prompt)
        self._max_tokens = self._room if max_tokens is None else min(max_tokens, self._room)
        self._can_rewind = can_rewind
        self._records = records
        self._copies: dict[int, Sampler] = {}
        """The sampler as it was before the token at a place was drawn."""
        self._disallowed: dict[int, set[int]] = {}
        self._place: int | None = None
        """Where to go back to."""

    @property
    def tokens(self) -> int:
        """How many there are."""
        return len(self.taken)

    @property
    def tokens_per_second(self) -> float:
        """Speed of the answer, without the prompt's evaluation; 0 for less than two tokens."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 else 0.0

    def rewind(self, count: int) -> None:
        """The last `count` tokens go, and the first of them does not come at its place again.

        None of them may have been released.
        """
        assert self._can_rewind and len(self.taken) - count in self._copies
        self._place = len(self.taken) - count

    def release(self, count: int) -> None:
        """The first `count` tokens that could be taken back no more can."""
        for place in sorted(self._copies)[:count]:
            self._copies.pop(place).close()

    def __iter__(self) -> Iterator[int]:
        engine = self._engine
        started = time.perf_counter()
        try:
            try:
                self.prompt_evaluated = engine.evaluate(self._prompt)
                self.prompt_reused = self.prompt_tokens - self.prompt_evaluated
            except Stopped:
                self.finish = "interrupted"
                return
            with recorder.during(ANSWERING, str(engine.header.path)):
                yield from self._tokens(started)
        finally:
            self._sampler.close()
            self.release(len(self._copies))

    def _tokens(self, started: float) -> Iterator[int]:
        engine, vocabulary, first = self._engine, self._engine.vocabulary, 0.0
        while not engine.stop.is_set():
            token = self._drawn()
            now = time.perf_counter()
            if not first:
                first = now
                self.prompt_seconds = now - started
            ends = vocabulary.ends_answer(token)
            self._sampler.accept(token, ends_answer=ends)
            if ends:
                self.end_token = token
                return
            if self._records:
                self.odds.append(odds(engine.last_logits(), token))
            self.taken.append(token)
            self.seconds = now - first
            yield token
            if self._place is not None:
                with suppress(Stopped):
                    self._go_back(self._place)
                continue
            if self.tokens >= self._max_tokens:
                self.finish = "context" if self.tokens >= self._room else "length"
                return
            engine.decode((token,))
            if self._records and (routes := engine.experts):
                self.routes.append(routes)
        self.finish = "interrupted"

    def _drawn(self) -> int:
        place = len(self.taken)
        if self._can_rewind:
            self._copies[place] = self._sampler.copy()
        return self._engine.sample(self._sampler, self._disallowed.get(place, ()))

    def _go_back(self, place: int) -> None:
        self._place = None
        self.rewound += len(self.taken) - place
        self._disallowed.setdefault(place, set()).add(self.taken[place])
        for later in [one for one in self._disallowed if one > place]:
            del self._disallowed[later]
        del self.taken[place:], self.odds[place:], self.routes[place:]
        self._sampler.close()
        self._sampler = self._copies.pop(place)
        for later in [one for one in self._copies if one > place]:
            self._copies.pop(later).close()
        self._engine.evaluate([*self._prompt, *self.taken])
