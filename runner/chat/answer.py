"""An answer of the model as it streams, and the conversation that results from it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.conversation.swipes import with_swipe
from franken_gguf.runner.conversation.thoughts import OPEN
from franken_gguf.runner.engine.engine import Generation
from franken_gguf.runner.prompt.text_stream import TokenText

from .context_window import ContextWindow


@dataclass(frozen=True)
class Text:
    """A part of the answer, in whole characters."""

    text: str
    place: int = field(default=0, compare=False)
    """The index of its last token in the answer."""


@dataclass(frozen=True)
class Truncated:
    """Comes before the answer: the context is full, and the oldest `turns` leave it."""

    turns: int
    is_summed_up: bool = False
    """Whether the model summarizes them."""


@dataclass(frozen=True)
class Summarized:
    """Comes after Truncated: the model's summary of everything that has left the context."""

    text: str


Piece = Text | Truncated | Summarized


@dataclass(frozen=True)
class Turn:
    """Where an answer belongs in the conversation."""

    messages: list[Message]
    """All messages before the answer."""
    continued: Message | None = None
    """The answer whose text this one continues."""
    replaced: Message | None = None
    """The answer that this one replaces, and that stays as a swipe of it."""
    following: tuple[Message, ...] = ()
    """The messages after the answer."""
    forgotten: int = 0
    """How many of `messages`, from the first, the model does not read."""

    @property
    def prefix(self) -> str:
        """The text that is continued."""
        return self.continued.content if self.continued else ""


class Answer:
    """An answer: iterate over it for its pieces. The conversation gets it, also if it is stopped.

    `generate` starts generating for a prompt; `tokens_of` gives a generation's tokens without
    banned phrases.
    """

    def __init__(
        self,
        turn: Turn,
        window: ContextWindow,
        generation: Generation,
        generate: Callable[[list[int]], Generation],
        tokens_of: Callable[[Generation], Iterator[int]],
    ) -> None:
        story = window.story
        self.generation = generation
        self.text = ""
        """What has been generated so far, without the text that it continues."""
        self.opening = "" if turn.continued else story.opening
        """The speaker's name and a colon if several characters play; not part of `text`."""
        self.speaker = "" if turn.continued or not story.card else story.card.char
        """The character who answers; "" if there is none or an answer is continued."""
        self._turn = turn
        self._window = window
        self._generate = generate
        self._tokens_of = tokens_of

    def __iter__(self) -> Generator[Piece, None, None]:
        window = self._window
        if self._turn.forgotten > window.conversation.forgotten:
            yield from self._truncate()
        stops = (*window.template.stops, *window.story.stops)
        tokens = self._tokens_of(self.generation)
        pieces = TokenText(tokens, window.engine.vocabulary.piece, stops)
        try:
            for place, piece in enumerate(pieces):
                # SentencePiece begins an answer with a space that is not part of its text.
                is_first = not (self.text or self._turn.continued)
                text = self._begun() + piece.text.lstrip() if is_first else piece.text
                self.text += text
                if text:
                    yield Text(text, place)
        finally:
            # A question whose answer was stopped before its first word is removed again.
            if self.text or self.generation.finish != "interrupted":
                window.conversation.messages = self.messages(self.text)

    @property
    def place(self) -> int:
        """The index in the conversation of the message that it writes."""
        return len(self._turn.messages)

    def read(self) -> str:
        """Generate the whole answer and return its text."""
        for _ in self:
            pass
        return self.text

    def messages(self, text: str) -> list[Message]:
        """The conversation with `text` as the answer so far."""
        turn = self._turn
        if turn.replaced:
            answer = with_swipe(turn.replaced, text, now())
        else:
            answer = turn.continued or self._window.story.answer()
            answer = replace(answer, content=answer.content + text, date=now())
        return [*turn.messages, answer, *turn.following]

    def messages_before(self) -> list[Message]:
        """The conversation before the first word; it can end with the question."""
        turn = self._turn
        existing = filter(None, (turn.continued or turn.replaced,))
        return [*turn.messages, *existing, *turn.following]

    def _begun(self) -> str:
        """The start of a new answer that the prompt has written already."""
        return OPEN if self._window.template.opens_thoughts and not self.opening else ""

    def _truncate(self) -> Iterator[Piece]:
        turn, window, conversation = self._turn, self._window, self._window.conversation
        leaving = turn.messages[conversation.forgotten : turn.forgotten]
        turns = max(1, sum(message.role == "user" for message in leaving))
        yield Truncated(turns, window.summarize)
        memory = window.summary_of(leaving) if window.summarize else ""
        if window.engine.stop.is_set():
            return  # the generation stops at once, too: nothing has changed
        conversation.forgotten = turn.forgotten
        if memory:
            before, conversation.memory = conversation.memory, memory
            prompt = window.prompt_for(turn.messages, turn.prefix, turn.forgotten)
            if len(prompt) < window.engine.n_ctx:
                self.generation = self._generate(prompt)
                yield Summarized(memory)
            else:  # the last turn alone is almost as large as the context
                conversation.memory = before


def now() -> str:
    """The current time in UTC, in ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
