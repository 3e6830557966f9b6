"""A conversation with a model: each question becomes a prompt, the tokens become text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import TracebackType

from franken_gguf.runner.conversation.conversation import Conversation, Message, turn_starts
from franken_gguf.runner.conversation.swipes import swipes
from franken_gguf.runner.engine.ban_filter import unbanned
from franken_gguf.runner.engine.engine import Engine, Generation
from franken_gguf.runner.prompt.template import Template
from franken_gguf.runner.prompt.text_stream import text_of
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import RANDOM_SEED, Sampling
from franken_gguf.runner.story.story import Story

from . import summary_request
from .answer import Answer, now

# A text that has more characters than this for each token of the context does not fit it: not
# worth a template's and a tokenizer's time. (Few tokens are as long, and then runs of spaces.)
_MAX_CHARACTERS_PER_TOKEN = 64


class Chat:
    """Joins an engine, the model's template and a conversation; knows no screen.

    `conversation`, `story`, `sampling`, `max_tokens` and `summarize` (whether the model sums up
    the turns that leave the context) may be changed between two answers. Close it, or use it in a
    `with` statement: engine and template are closed with it.
    """

    def __init__(
        self,
        engine: Engine,
        template: Template,
        sampling: Sampling,
        *,
        system: str = "",
        max_tokens: int | None = None,
        summarize: bool = False,
    ) -> None:
        self.conversation = Conversation(system)
        self.engine = engine
        self.template = template
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.summarize = summarize
        self.story = Story()
        self.banned = Banned()
        """Phrases that no answer holds."""
        self.records = False
        """Whether the odds of an answer's tokens, and the experts they went to, are kept."""
        self.last: Generation | None = None
        """The last answer as it was drawn."""
        self.expert_names: tuple[str, ...] = ()
        self._tries = 0

    def ask(self, question: str) -> Answer:
        """The model's answer: iterate over it for its pieces. Raises PromptError, EngineError.

        Where the conversation outgrows the context, whole turns leave what the model reads, the
        oldest first, until half of the context is free: seldom and much, so that most turns find
        their start evaluated already. The system text stays. A refused question changes nothing.
        """
        self._tries = 0
        return self._answer([*self.conversation.messages, Message("user", question, now())])

    def ask_instead(self, question: str) -> Answer:
        """The answer to `question` in place of the last question and all after it.

        Raises ConversationError, and as `ask` does.
        """
        self._tries = 0
        before = self.conversation.messages[: self.conversation.last_question()]
        return self._answer([*before, Message("user", question, now())])

    def regenerate(self) -> Answer:
        """Another answer in place of the last one, which stays as one of its alternatives.

        Raises ConversationError, and as `ask` does.
        """
        place = self.conversation.last_answer()
        before = self.conversation.messages[place]
        self._tries = len(swipes(before)[0])
        return self._answer(self.conversation.messages[:place], place + 1, before=before)

    def resume(self) -> Answer:
        """More of the last answer. Raises ConversationError, and as `ask` does."""
        place = self.conversation.last_answer()
        messages = self.conversation.messages
        return self._answer(messages[:place], place + 1, messages[place])

    def speak(self) -> Answer:
        """What the character whose turn it is says without being asked. Raises as `ask` does."""
        self._tries = 0
        return self._answer(list(self.conversation.messages))

    def tell(self, story: Story) -> None:
        """Go on with this story; a quarter of the context is for its lore."""
        vocabulary = self.engine.vocabulary
        story.count_tokens = cache(lambda text: len(vocabulary.tokenize(text)))
        story.budget = self.engine.n_ctx // 4
        self.story = story

    def context_used(self) -> int:
        """Tokens of the conversation as the model would read it now."""
        said = self.conversation.messages
        messages = self.story.read(self.conversation, said, self.conversation.forgotten)
        if not messages:
            return 0
        text = self.template.render(messages, add_generation_prompt=False)
        return len(self.engine.vocabulary.prompt(text))

    def close(self) -> None:
        """Free the model and end the template's process."""
        self.engine.close()
        self.template.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(
        self,
        said: list[Message],
        place_after: int | None = None,
        begun: Message | None = None,
        before: Message | None = None,
    ) -> Answer:
        after = [] if place_after is None else self.conversation.messages[place_after:]
        for spoken in filter(None, (begun, before)):
            self.story.set_speaker(spoken)
        said = self.story.heard(said)
        forgotten, prompt = self._fitting(said, begun.content if begun else "")
        return Answer(self, said, begun, before, after, forgotten, self.generate(prompt))

    def generate(self, prompt: list[int]) -> Generation:
        """An answer to `prompt` by the settings of now. Raises EngineError, SamplingError."""
        sampling = self.sampling
        if sampling.seed != RANDOM_SEED:  # the same again is no other answer
            sampling = replace(sampling, seed=(sampling.seed + self._tries) % RANDOM_SEED)
        return self.engine.generate(
            prompt,
            sampling,
            self.max_tokens,
            can_rewind=bool(self.banned),
            records=self.records,
        )

    def tokens_of(self, generation: Generation) -> Iterator[int]:
        """Its tokens as they may be shown, without what is banned."""
        self.last = generation
        if not self.banned:
            return iter(generation)
        return unbanned(generation, self.banned, self.engine.vocabulary.piece)

    def prompt_for(self, said: list[Message], head: str, forgotten: int) -> list[int]:
        """The tokens of all that is `said` but its first `forgotten` messages.

        They end where the answer begins, or after its `head`. Raises PromptError.
        """
        return self.engine.vocabulary.prompt(self._text(said, head, forgotten))

    def _text(self, said: list[Message], head: str, forgotten: int) -> str:
        # Templates look at the first message, so there must be one.
        messages = self.story.read(self.conversation, said, forgotten) or [Message("user", "")]
        start = self.template.render(messages)
        head = " ".join(filter(None, (self.story.opening, head)))
        if not head:
            return start
        # As the template writes an answer that stands (some put a space before it).
        messages.append(Message("assistant", head))
        whole = self.template.render(messages, add_generation_prompt=False)
        place = whole.find(head, len(start)) if whole.startswith(start) else -1
        return whole[: place + len(head)] if place >= 0 else start + head

    def _fitting(self, said: list[Message], head: str) -> tuple[int, list[int]]:
        """How many first messages the model shall no longer read, and the prompt without them."""
        n_ctx, kept = self.engine.n_ctx, self.conversation.forgotten
        room = min(n_ctx // 4, self.max_tokens or n_ctx)

        @cache
        def prompt(forgotten: int) -> list[int]:
            return self.prompt_for(said, head, forgotten)

        def fits(forgotten: int, most: int) -> bool:
            characters = sum(len(message.content) for message in said[forgotten:])
            return (
                characters <= _MAX_CHARACTERS_PER_TOKEN * n_ctx and len(prompt(forgotten)) <= most
            )

        starts = turn_starts(said, kept)
        if not starts or fits(kept, n_ctx - room):
            return kept, prompt(kept)
        place = bisect_left(starts, True, key=lambda start: fits(start, n_ctx // 2))
        chosen = starts[min(place, len(starts) - 1)]
        return chosen, prompt(chosen)

    def summary_of(self, leaving: list[Message]) -> str:
        """What the model says in short of its memory and the messages that leave.

        Nothing where the context is too small for it.
        """
        vocabulary, n_ctx = self.engine.vocabulary, self.engine.n_ctx
        limit = n_ctx // 8
        text = summary_request.transcript(self.conversation.memory, leaving)
        # The request and the template's own words have the other quarter.
        tokens = vocabulary.tokenize(text)[-(n_ctx // 2) :]
        text = b"".join(map(vocabulary.piece, tokens)).decode(errors="replace")
        request = [Message("user", summary_request.request(text, limit))]
        prompt = vocabulary.prompt(self.template.render(request))
        if len(prompt) + limit > n_ctx:
            return ""
        sampling = Sampling(temperature=0, repeat_penalty=1.1)
        generation = self.engine.generate(prompt, sampling, limit)
        return "".join(text_of(generation, vocabulary.piece, self.template.stops)).strip()
