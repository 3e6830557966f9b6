"""An answer of the model as it comes, and what becomes of the conversation with it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.conversation.swipes import with_swipe
from franken_gguf.runner.engine.engine import Generation
from franken_gguf.runner.prompt.text_stream import text_of

if TYPE_CHECKING:
    from .chat import Chat


@dataclass(frozen=True)
class Text:
    """A part of the answer, in whole characters."""

    text: str


@dataclass(frozen=True)
class Truncated:
    """Comes before the answer: the conversation outgrew the context, its oldest turns leave it."""

    turns: int
    is_summed_up: bool = False
    """Whether the model sums them up."""


@dataclass(frozen=True)
class Summarized:
    """Comes after Truncated: the model's summary of all that has left."""

    text: str


Piece = Text | Truncated | Summarized


class Answer:
    """An answer as it comes. The conversation keeps what came of it, also where it was stopped."""

    def __init__(
        self,
        chat: Chat,
        said: list[Message],
        begun: Message | None,
        before: Message | None,
        after: list[Message],
        forgotten: int,
        generation: Generation,
    ) -> None:
        self.generation = generation
        self.text = ""
        """What has come; where an answer goes on, only what is new."""
        self.opening = "" if begun else chat.story.opening
        """The speaker's name and a colon, where several characters play; not in `text`."""
        self.speaker = "" if begun or not chat.story.card else chat.story.card.char
        """Which character answers; "" where none plays or its answer goes on."""
        self._chat = chat
        self._said = said
        self._begun = begun
        self._before = before
        self._after = after
        self._forgotten = forgotten

    def __iter__(self) -> Generator[Piece, None, None]:
        chat = self._chat
        if self._forgotten > chat.conversation.forgotten:
            yield from self._forget()
        stops = (*chat.template.stops, *chat.story.stops)
        tokens = chat.tokens_of(self.generation)
        pieces = text_of(tokens, chat.engine.vocabulary.piece, stops)
        try:
            for text in pieces:
                # SentencePiece begins an answer with a space, which is no part of what is said.
                text = text if self.text or self._begun else text.lstrip()
                self.text += text
                if text:
                    yield Text(text)
        finally:
            # A question that was stopped before its first word was taken back.
            if self.text or self.generation.finish != "interrupted":
                self._chat.conversation.messages = self.messages(self.text)

    def read(self) -> str:
        """All of the answer's text, once it has come."""
        for _ in self:
            pass
        return self.text

    def _forget(self) -> Iterator[Piece]:
        chat, conversation = self._chat, self._chat.conversation
        leaving = self._said[conversation.forgotten : self._forgotten]
        turns = max(1, sum(message.role == "user" for message in leaving))
        yield Truncated(turns, chat.summarize)
        memory = chat.summary_of(leaving) if chat.summarize else ""
        if chat.engine.stop.is_set():
            return  # and the generation hears it too: nothing has changed
        conversation.forgotten = self._forgotten
        if memory:
            before, conversation.memory = conversation.memory, memory
            head = self._begun.content if self._begun else ""
            prompt = chat.prompt_for(self._said, head, self._forgotten)
            if len(prompt) < chat.engine.n_ctx:
                self.generation = chat.generate(prompt)
                yield Summarized(memory)
            else:  # beside a last turn as large as the context
                conversation.memory = before

    def messages(self, text: str) -> list[Message]:
        """The conversation once `text` has come."""
        if self._before:
            said = with_swipe(self._before, text, now())
        else:
            begun = self._begun or self._chat.story.answer()
            said = replace(begun, content=begun.content + text, date=now())
        return [*self._said, said, *self._after]

    def messages_before(self) -> list[Message]:
        """The conversation before anything has come: it may end with the question."""
        there = filter(None, (self._begun or self._before,))
        return [*self._said, *there, *self._after]


def now() -> str:
    """The time in UTC as ISO 8601 writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
