"""A chat with a model: sends the conversation to the engine and returns its answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import TracebackType

from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.conversation.swipes import swipes
from franken_gguf.runner.engine.ban_filter import unbanned
from franken_gguf.runner.engine.engine import Engine, Generation
from franken_gguf.runner.prompt.template import Template
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import RANDOM_SEED, Sampling
from franken_gguf.runner.story.story import Story

from .answer import Answer, Turn, now
from .context_window import ContextWindow


class Chat:
    """Joins an engine, the model's template and a conversation; knows no screen.

    `conversation`, `story`, `sampling`, `max_tokens` and `summarize` (whether the model summarizes
    the turns that leave the context) can be changed between two answers. Close it, or use it in a
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
        """Phrases that no answer may contain."""
        self.records = False
        """Whether to record the probabilities of an answer's tokens and the experts they used."""
        self.last: Generation | None = None
        """The generation of the last answer."""
        self.expert_names: tuple[str, ...] = ()
        self._tries = 0

    def ask(self, question: str, speaker: str = "") -> Answer:
        """The model's answer: iterate over it for its pieces. Raises PromptError, EngineError.

        In a story with several characters `speaker` answers; by default the one whom the question
        names, or else the next in turn.

        Once the conversation outgrows the context, the model no longer reads its oldest turns:
        enough are left out to free half of the context, so that this is rare and most prompts
        start with text that is already evaluated. The system text stays. If an error is raised,
        the conversation is unchanged.
        """
        return self._begin([*self.conversation.messages, Message("user", question, now())], speaker)

    def ask_instead(self, question: str, speaker: str = "") -> Answer:
        """The answer to `question` in place of the last question and all after it.

        Raises ConversationError, and as `ask` does.
        """
        before = self.conversation.messages[: self.conversation.last_question()]
        return self._begin([*before, Message("user", question, now())], speaker)

    def regenerate(self) -> Answer:
        """Another answer in place of the last one, which becomes a swipe.

        Raises ConversationError, and as `ask` does.
        """
        before, answer, following = self._around_last_answer()
        self._tries = len(swipes(answer)[0])
        return self._answer(Turn(before, replaced=answer, following=following))

    def resume(self) -> Answer:
        """Continue the last answer. Raises ConversationError, and as `ask` does."""
        before, answer, following = self._around_last_answer()
        return self._answer(Turn(before, continued=answer, following=following))

    def speak(self, speaker: str = "") -> Answer:
        """What `speaker`, or the next in turn, says without a question. Raises as `ask` does."""
        return self._begin(list(self.conversation.messages), speaker)

    def set_story(self, story: Story) -> None:
        """Use `story` from now on; its lore gets at most a quarter of the context."""
        vocabulary = self.engine.vocabulary
        story.count_tokens = cache(lambda text: len(vocabulary.tokenize(text)))
        story.budget = self.engine.n_ctx // 4
        self.story = story

    def context_used(self) -> int:
        """Tokens of the conversation as the model would read it now. Raises PromptError."""
        return self._window().used()

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

    def _around_last_answer(self) -> tuple[list[Message], Message, tuple[Message, ...]]:
        """The messages before the last answer, that answer, and the messages after it."""
        place, messages = self.conversation.last_answer(), self.conversation.messages
        return messages[:place], messages[place], tuple(messages[place + 1 :])

    def _begin(self, messages: list[Message], speaker: str) -> Answer:
        self._tries = 0
        self.story.take_turn(messages, speaker)
        return self._answer(Turn(messages))

    def _answer(self, turn: Turn) -> Answer:
        existing = turn.continued or turn.replaced
        if existing:
            self.story.set_speaker(existing)
        messages = self.story.with_lore_starts(turn.messages)
        window = self._window()
        forgotten, prompt = window.fitting(messages, turn.prefix)
        turn = replace(turn, messages=messages, forgotten=forgotten)
        return Answer(turn, window, self._generate(prompt), self._generate, self._tokens_of)

    def _window(self) -> ContextWindow:
        return ContextWindow(
            self.engine,
            self.template,
            self.story,
            self.conversation,
            self.max_tokens,
            self.summarize,
        )

    def _generate(self, prompt: list[int]) -> Generation:
        sampling = self.sampling
        if sampling.seed != RANDOM_SEED:  # with the same seed the next try would be the same answer
            sampling = replace(sampling, seed=(sampling.seed + self._tries) % RANDOM_SEED)
        return self.engine.generate(
            prompt,
            sampling,
            self.max_tokens,
            can_rewind=bool(self.banned),
            records=self.records,
        )

    def _tokens_of(self, generation: Generation) -> Iterator[int]:
        """The tokens of `generation`, without banned phrases."""
        self.last = generation
        if not self.banned:
            return iter(generation)
        return unbanned(generation, self.banned, self.engine.vocabulary.piece)
