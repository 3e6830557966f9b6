"""The model that a server answers with: its thread, and what requests default to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

import anyio.to_thread

from franken_gguf.runner.chat.chat import Chat

from .chat_messages import Turns
from .completing import Completion, Finished, Token, complete
from .kept_states import KeptStates
from .model_thread import ModelThread, Ticket
from .refusals import RequestError

T = TypeVar("T")
# A text with more characters than this per token of the context is known not to fit.
_MAX_CHARACTERS_PER_TOKEN = 64
# Another answer to the same prompt, even after a client's requests for a title and tags, starts
# sooner if the prompt is neither rendered nor tokenized again.
_RECENT_PROMPTS = 4


@dataclass
class ServedModel:
    """Joins a chat's engine, template and defaults with the thread that works with them."""

    chat: Chat
    name: str
    """What clients call it."""
    thread: ModelThread
    kept: KeptStates
    started: int = 0
    """When the server was started, in seconds since 1970."""

    def __post_init__(self) -> None:
        self.engine = self.chat.engine
        self.vocabulary = self.engine.vocabulary
        header = self.engine.header
        self.render = lru_cache(_RECENT_PROMPTS)(self._render)
        self.prompt = lru_cache(_RECENT_PROMPTS)(self._prompt)
        self.trained_ctx = header.integer(f"{header.text('general.architecture')}.context_length")

    def submit(
        self, wanted: Completion, client: str, *, is_streamed: bool
    ) -> Ticket[Token | Finished]:
        """Queue a completion. Raises RequestError."""
        work = partial(complete, self.engine, wanted)
        return self.thread.submit(work, client, is_streamed=is_streamed)

    def limit(self, wanted: int | None) -> int | None:
        """The longest answer for a request: what it wants, at most what the server allows."""
        most = self.chat.max_tokens
        wanted = None if wanted is None or wanted < 0 else wanted
        return min((one for one in (wanted, most) if one is not None), default=None)

    def _prompt(self, text: str) -> tuple[int, ...]:
        """The tokens of a prompt's text. Raises RequestError if they do not fit.

        Takes a while, as `render` does: not for the event loop's thread.
        """
        n_ctx = self.engine.n_ctx
        if len(text) > _MAX_CHARACTERS_PER_TOKEN * n_ctx:
            raise _too_long(f"of {len(text)} characters", None, n_ctx)
        return self.fitting(self.vocabulary.prompt(text))

    def fitting(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """`tokens` as a prompt. Raises RequestError if they do not fit or are not the model's."""
        n_ctx, size = self.engine.n_ctx, self.vocabulary.size
        if len(tokens) >= n_ctx:
            raise _too_long(f"of {len(tokens)} tokens", len(tokens), n_ctx)
        if any(not 0 <= token < size for token in tokens):
            raise RequestError(f"the prompt has token ids outside 0 to {size - 1}", field="prompt")
        if tokens:
            return tuple(tokens)
        first = self.vocabulary.bos
        return (first if first is not None else self.vocabulary.end_tokens[0],)

    def _render(self, turns: Turns) -> str:
        """The prompt text of a chat. Raises PromptError."""
        template = self.chat.template
        if turns.has_answer:
            return template.render_up_to(turns.messages, turns.prefix)
        return template.render(turns.messages, add_generation_prompt=False)


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """The result of `function`, run outside the event loop's thread."""
    return await anyio.to_thread.run_sync(function, *arguments)


def _too_long(size: str, tokens: int | None, n_ctx: int) -> RequestError:
    return RequestError(
        f"the prompt {size} does not fit into the context of {n_ctx} tokens; shorten it, or start "
        "the server with a larger -c",
        field="prompt",
        code="context_length_exceeded",
        extra={"type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": n_ctx},
    )
