"""A conversation with a model: each question becomes a prompt, the tokens become text."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator

from .conversation import Conversation
from .engine import Engine, Generation
from .prompt import Template
from .sampling import Sampling


class Chat:
    """Joins an engine, the model's template and a conversation; knows no screen."""

    def __init__(
        self,
        engine: Engine,
        template: Template,
        sampling: Sampling,
        *,
        system: str = "",
        max_tokens: int | None = None,
    ) -> None:
        self.conversation = Conversation(system)
        self._engine = engine
        self._template = template
        self._sampling = sampling
        self._max_tokens = max_tokens

    def ask(self, question: str) -> Answer:
        """The model's answer: iterate over it for its text. Raises PromptError, EngineError.

        Where the conversation outgrows the context, whole turns are forgotten, the oldest first,
        until half of the context is free: seldom and much, so that most turns find their start
        evaluated already. The system text stays. A question that is refused changes nothing.
        """
        past = list(self.conversation.messages)
        dropped = 0
        prompt = self._prompt(question)
        n_ctx = self._engine.n_ctx
        room = n_ctx // 4 if self._max_tokens is None else min(self._max_tokens, n_ctx // 4)
        if len(prompt) + room > n_ctx:
            while len(prompt) > n_ctx // 2 and self.conversation.drop_oldest_turn():
                dropped += 1
                prompt = self._prompt(question)
        try:
            generation = self._engine.generate(prompt, self._sampling, self._max_tokens)
        except Exception:
            self.conversation.messages = past
            raise
        return Answer(self, question, generation, dropped)

    def _prompt(self, question: str) -> list[int]:
        text = self._template.render(self.conversation.with_question(question))
        return self._engine.vocabulary.prompt(text)

    def _text(self, generation: Generation) -> Iterator[str]:
        return text_of(generation, self._engine.vocabulary.piece, self._template.stops)


class Answer:
    """An answer as it comes. The conversation keeps what came of it, also where it was stopped."""

    def __init__(self, chat: Chat, question: str, generation: Generation, dropped: int) -> None:
        self.generation = generation
        self.dropped_turns = dropped
        self.text = ""
        self._chat = chat
        self._question = question

    def __iter__(self) -> Iterator[str]:
        try:
            for piece in self._chat._text(self.generation):
                self.text += piece
                yield piece
        finally:
            # A question that was stopped before its first word was taken back.
            if self.text or self.generation.finish != "interrupted":
                self._chat.conversation.keep(self._question, self.text)


def text_of(
    tokens: Iterable[int], piece: Callable[[int], bytes], stops: tuple[str, ...] = ()
) -> Iterator[str]:
    """The text of `tokens` in whole characters, each as soon as it is whole, up to any of `stops`.

    `piece` gives a token's bytes. Bytes that are no UTF-8 become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    for token in tokens:
        held += decoder.decode(piece(token))
        found = [held.index(stop) for stop in stops if stop in held]
        if found:
            held = held[: min(found)]
            break
        # The end of what came may be the start of a stop: it waits for the rest.
        safe = len(held) - max((_overlap(held, stop) for stop in stops), default=0)
        if safe:
            yield held[:safe]
            held = held[safe:]
    else:
        held += decoder.decode(b"", final=True)
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
