"""The user's next line as the model would write it: a prompt that ends where their turn begins."""

from __future__ import annotations

import uuid

from franken_gguf.runner.conversation.conversation import NOTE, ConversationError, Message
from franken_gguf.runner.prompt.text_stream import text_of

from .chat import Chat

_MAX_TOKENS = 256


class Draft:
    """The user's next line, once `read`; the conversation stays as it is.

    No instruction asks for it: after the head of a user's turn, a chat model writes what a user
    says (https://arxiv.org/abs/2406.08464). So only that head is evaluated. Raises
    ConversationError where it is not the user's turn, PromptError, EngineError.
    """

    def __init__(self, chat: Chat) -> None:
        roles = [one.role for one in chat.conversation.messages[chat.conversation.forgotten :]]
        if [role for role in roles if role != NOTE][-1:] == ["user"]:
            raise ConversationError("the last word is yours already; /undo takes it back")
        self.text = ""
        self._chat = chat
        head, stop = _users_turn(chat)
        names = (f"\n{card.char}:" for card in chat.story.cards)
        self._stops = (*chat.template.stops, *filter(None, [stop]), *names)
        self.generation = chat.engine.generate(
            chat.engine.vocabulary.prompt(head),
            chat.sampling,
            min(chat.max_tokens or _MAX_TOKENS, _MAX_TOKENS),
        )

    def read(self) -> str:
        """Let the model write it; what came of it, where it was stopped."""
        # Spelled, a control token that ends a user's turn ends the line too.
        spelling = self._chat.engine.vocabulary.spelling
        self.text = "".join(text_of(self.generation, spelling, self._stops)).strip()
        return self.text


def _users_turn(chat: Chat) -> tuple[str, str]:
    """All that stands before the user's next words, and what the template ends a turn with."""
    words = Message("user", uuid.uuid4().hex)
    conversation = chat.conversation
    said = chat.story.read(conversation, [*conversation.messages, words], conversation.forgotten)
    text = chat.template.render(said, add_generation_prompt=False)
    alone = chat.template.render([words], add_generation_prompt=False)
    head = text.rpartition(words.content)[0]
    # A token of words brings its own space.
    return head.rstrip(" "), alone.rpartition(words.content)[2].strip()
