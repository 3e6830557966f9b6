"""One answer, sampled token by token; tokens can be rewound and sampled again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from franken_gguf.runner.crash.flight_recorder import ANSWERING, recorder

from .context import Context, Routes
from .interrupt import Stopped
from .sampler import Sampler
from .token_probs import Odds, odds

__all__ = ["Generation", "Routes"]


class Generation:
    """One answer: iterate over it for the token ids; its figures are valid at any time.

    The end token is not among them. `finish` is "stop" (the model or the caller ended it), "length"
    (max_tokens), "context" (the context is full) or "interrupted". If it was made with
    `can_rewind`, tokens can be rewound between two iterations. Between two others can use the
    context.
    """

    def __init__(
        self,
        context: Context,
        prompt: list[int],
        sampler: Sampler,
        max_tokens: int | None,
        can_rewind: bool,
        records: bool,
        alternatives: int | None,
    ) -> None:
        self.finish = "stop"
        self.end_token: int | None = None
        """The end token that the model sampled, if any."""
        self.n_ctx = context.n_ctx
        self.prompt_tokens = len(prompt)
        self.prompt_evaluated = 0
        self.prompt_reused = 0
        self.prompt_seconds = 0.0
        self.taken: list[int] = []
        """The tokens of the answer."""
        self.rewound = 0
        """Tokens that were rewound."""
        self.odds: list[Odds] = []
        """One for each token, if it records."""
        self.routes: list[Routes] = []
        """One for each token, perhaps without the last, if it records and routing is captured."""
        self.seconds = 0.0
        """From the end of the first token to that of the last."""
        self._context = context
        self._prompt = prompt
        self._sampler = sampler
        self._room = context.n_ctx - len(prompt)
        self._max_tokens = self._room if max_tokens is None else min(max_tokens, self._room)
        self._can_rewind = can_rewind
        self._records = records
        self._alternatives = alternatives
        self._snapshots: dict[int, Sampler] = {}
        """By position in the answer, the sampler as it was before that token."""
        self._disallowed: dict[int, set[int]] = {}
        """By position, the tokens that must not be sampled there."""
        self._rewind_to: int | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens in the answer."""
        return len(self.taken)

    @property
    def tokens_per_second(self) -> float:
        """Speed of the answer, without the prompt's evaluation; 0 for less than two tokens."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 else 0.0

    def rewind(self, count: int) -> None:
        """Take back the last `count` tokens; the first of them is disallowed at its position.

        None of them may have been released.
        """
        assert self._can_rewind and len(self.taken) - count in self._snapshots
        self._rewind_to = len(self.taken) - count

    def release(self, count: int) -> None:
        """Free the samplers kept for rewinding to the first `count` positions that have one."""
        for position in sorted(self._snapshots)[:count]:
            self._snapshots.pop(position).close()

    def __iter__(self) -> Iterator[int]:
        started = time.perf_counter()
        try:
            try:
                self.prompt_evaluated = self._read(self._prompt)
                self.prompt_reused = self.prompt_tokens - self.prompt_evaluated
                if not self._max_tokens:
                    self.finish = "length"
                    return
            except Stopped:
                self.finish = "interrupted"
                return
            with recorder.during(ANSWERING, str(self._context.header.path)):
                yield from self._tokens(started)
        finally:
            self._sampler.close()
            self.release(len(self._snapshots))

    def _tokens(self, started: float) -> Iterator[int]:
        context, first = self._context, 0.0
        while not context.stop.is_set():
            token = self._sample()
            now = time.perf_counter()
            if not first:
                first = now
                self.prompt_seconds = now - started
            ends = context.vocabulary.ends_answer(token)
            self._sampler.accept(token, ends_answer=ends)
            if ends:
                self.end_token = token
                return
            if self._records:
                self.odds.append(odds(context.last_logits(), token, self._alternatives))
            self.taken.append(token)
            self.seconds = now - first
            yield token
            if self._rewind_to is not None:
                with suppress(Stopped):
                    self._go_back(self._rewind_to)
                continue
            if self.tokens >= self._max_tokens:
                self.finish = "context" if self.tokens >= self._room else "length"
                return
            if context.reader is self:
                context.decode((token,))
            else:
                with suppress(Stopped):
                    self._read([*self._prompt, *self.taken])
            if self._records and (routes := context.experts):
                self.routes.append(routes)
        self.finish = "interrupted"

    def _read(self, tokens: list[int]) -> int:
        """Bring `tokens` into the context, and return how many had to be evaluated."""
        self._context.reader = self
        self._context.recall(tokens)
        return self._context.evaluate(tokens)

    def _sample(self) -> int:
        position = len(self.taken)
        if self._can_rewind:
            self._snapshots[position] = self._sampler.copy()
        return self._context.sample(self._sampler, self._disallowed.get(position, ()))

    def _go_back(self, position: int) -> None:
        self._rewind_to = None
        self.rewound += len(self.taken) - position
        self._disallowed.setdefault(position, set()).add(self.taken[position])
        for later in [other for other in self._disallowed if other > position]:
            del self._disallowed[later]
        del self.taken[position:], self.odds[position:], self.routes[position:]
        self._sampler.close()
        self._sampler = self._snapshots.pop(position)
        for later in [other for other in self._snapshots if other > position]:
            self._snapshots.pop(later).close()
        self._read([*self._prompt, *self.taken])
