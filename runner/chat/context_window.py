"""Fits a conversation into the context: the prompt, what to leave out, and a summary of that."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

from franken_gguf.runner.conversation.conversation import Conversation, Message, turn_starts
from franken_gguf.runner.conversation.thoughts import NO_THOUGHTS, OPEN
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.prompt.template import Template
from franken_gguf.runner.prompt.text_stream import text_of
from franken_gguf.runner.sampling.settings import Sampling
from franken_gguf.runner.story.story import Story

from . import summary_request

# A text with more characters than this per token of the context is known not to fit without
# rendering and tokenizing it. (Few tokens are longer, and those are runs of spaces.)
_MAX_CHARACTERS_PER_TOKEN = 64


@dataclass(frozen=True)
class ContextWindow:
    """Turns messages into prompts that fit `engine`'s context.

    `max_tokens` is the longest answer, None without a limit. With `summarize` the model
    summarizes the turns that leave the context.
    """

    engine: Engine
    template: Template
    story: Story
    conversation: Conversation
    max_tokens: int | None = None
    summarize: bool = False

    def used(self) -> int:
        """Tokens of the conversation as the model would read it now. Raises PromptError."""
        conversation = self.conversation
        messages = self.story.read(conversation, conversation.messages, conversation.forgotten)
        if not messages:
            return 0
        text = self.template.render(messages, add_generation_prompt=False)
        return len(self.engine.vocabulary.prompt(text))

    def prompt_for(self, messages: list[Message], prefix: str, forgotten: int) -> list[int]:
        """The prompt's tokens for `messages` without the first `forgotten`.

        They end where the answer begins, or after `prefix`, the text that the answer starts with.
        Raises PromptError.
        """
        return self.engine.vocabulary.prompt(self._text(messages, prefix, forgotten))

    def fitting(self, messages: list[Message], prefix: str) -> tuple[int, list[int]]:
        """How many of the oldest messages to leave out, and the prompt without them.

        As long as there is room for the answer, no more than before; then whole turns, until the
        prompt takes at most half of the context. Raises PromptError.
        """
        n_ctx, already = self.engine.n_ctx, self.conversation.forgotten
        room = min(n_ctx // 4, self.max_tokens or n_ctx)

        @cache
        def prompt(forgotten: int) -> list[int]:
            return self.prompt_for(messages, prefix, forgotten)

        def fits(forgotten: int, limit: int) -> bool:
            characters = sum(len(message.content) for message in messages[forgotten:])
            return (
                characters <= _MAX_CHARACTERS_PER_TOKEN * n_ctx and len(prompt(forgotten)) <= limit
            )

        starts = turn_starts(messages, already)
        if not starts or fits(already, n_ctx - room):
            return already, prompt(already)
        place = bisect_left(starts, True, key=lambda start: fits(start, n_ctx // 2))
        forgotten = starts[min(place, len(starts) - 1)]
        return forgotten, prompt(forgotten)

    def summary_of(self, leaving: list[Message]) -> str:
        """The model's summary of its memory and of the messages that leave.

        Empty if the context is too small for the request. Raises PromptError, EngineError.
        """
        vocabulary, n_ctx = self.engine.vocabulary, self.engine.n_ctx
        limit = n_ctx // 8
        text = summary_request.transcript(self.conversation.memory, leaving)
        # Half of the context for the text, an eighth for the summary, the rest for the request.
        tokens = vocabulary.tokenize(text)[-(n_ctx // 2) :]
        text = b"".join(map(vocabulary.piece, tokens)).decode(errors="replace")
        request = [Message("user", summary_request.request(text, limit))]
        # A summary has no room for thoughts; this is how Qwen3's template leaves them out.
        prefix = NO_THOUGHTS if OPEN in self.template.source else ""
        prompt = vocabulary.prompt(self.template.render_up_to(request, prefix))
        if len(prompt) + limit > n_ctx:
            return ""
        sampling = Sampling(temperature=0, repeat_penalty=1.1)
        generation = self.engine.generate(prompt, sampling, limit)
        return "".join(text_of(generation, vocabulary.piece, self.template.stops)).strip()

    def _text(self, messages: list[Message], prefix: str, forgotten: int) -> str:
        # Templates look at the first message, so there must be one.
        read = self.story.read(self.conversation, messages, forgotten) or [Message("user", "")]
        prefix = " ".join(filter(None, (self.story.opening, prefix)))
        return self.template.render_up_to(read, prefix)
