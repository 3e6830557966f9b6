"""The user's next line as the model would write it: a prompt that ends where their turn begins."""

from __future__ import annotations

import uuid

from .chat import Chat
from .conversation import ConversationError, Message
from .text_stream import text_of

_MAX_TOKENS = 256


class Draft:
    """The user's next line, once `read`; the conversation stays as it is.

    No instruction asks for it: after the head of a user's turn, a chat model writes what a user
    says (https://arxiv.org/abs/2406.08464). So only that head is evaluated. Raises
    ConversationError where it is not the user's turn, PromptError, EngineError.
    """

    def __init__(self, chat: Chat) -> None:
        said = chat.conversation.read_by_model()
        if said and said[-1].role == "user":
            raise ConversationError("the last word is yours already; /undo takes it back")
        self.text = ""
        self._chat = chat
        prompt, stop = _users_turn(chat, said)
        limit = min(chat.max_tokens or _MAX_TOKENS, _MAX_TOKENS)
        self.generation = chat.engine.generate(
            chat.engine.vocabulary.prompt(prompt), chat.sampling, limit
        )
        self._stops = (*chat.template.stops, *filter(None, [stop]))

    def read(self) -> str:
        """Let the model write it; what came of it, where it was stopped."""
        # Spelled, a control token that ends a user's turn ends the line too.
        spelling = self._chat.engine.vocabulary.spelling
        self.text = "".join(text_of(self.generation, spelling, self._stops)).strip()
        return self.text


def _users_turn(chat: Chat, said: list[Message]) -> tuple[str, str]:
    """What stands before the user's next words as the template writes it, and what after."""
    words = uuid.uuid4().hex
    text = chat.template.render([*said, Message("user", words)], add_generation_prompt=False)
    head, _, tail = text.rpartition(words)
    return head.rstrip(" "), tail.strip()  # a token of words brings its own space
