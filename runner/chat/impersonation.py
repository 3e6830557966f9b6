"""Drafts the user's next line: the model continues a prompt that ends where a user turn begins."""

from __future__ import annotations

import uuid

from franken_gguf.runner.conversation.conversation import NOTE, ConversationError, Message
from franken_gguf.runner.prompt.text_stream import text_of

from .chat import Chat

_MAX_TOKENS = 256


class Draft:
    """A draft of the user's next line; `read` generates it. The conversation does not change.

    The model is not instructed to write it: after the header of a user turn, a chat model writes
    what a user would (https://arxiv.org/abs/2406.08464), so only that header is evaluated. Raises
    ConversationError if the last message is the user's, PromptError, EngineError.
    """

    def __init__(self, chat: Chat) -> None:
        messages = chat.conversation.messages[chat.conversation.forgotten :]
        roles = [message.role for message in messages if message.role != NOTE]
        if roles[-1:] == ["user"]:
            raise ConversationError("the last message is yours; /undo removes it")
        self.text = ""
        self._chat = chat
        head, stop = _user_turn(chat)
        names = (f"\n{card.char}:" for card in chat.story.cards)
        self._stops = (*chat.template.stops, *filter(None, [stop]), *names)
        self.generation = chat.engine.generate(
            chat.engine.vocabulary.prompt(head),
            chat.sampling,
            min(chat.max_tokens or _MAX_TOKENS, _MAX_TOKENS),
        )

    def read(self) -> str:
        """Generate the draft and return it; if it is stopped, what was written so far."""
        # Spelled out, so that a control token that ends a user turn matches `stops`.
        spelling = self._chat.engine.vocabulary.spelling
        self.text = "".join(text_of(self.generation, spelling, self._stops)).strip()
        return self.text


def _user_turn(chat: Chat) -> tuple[str, str]:
    """The prompt up to the user's next words, and the text with which the template ends a turn."""
    marker = Message("user", uuid.uuid4().hex)
    conversation = chat.conversation
    messages = [*conversation.messages, marker]
    read = chat.story.read(conversation, messages, conversation.forgotten)
    text = chat.template.render(read, add_generation_prompt=False)
    alone = chat.template.render([marker], add_generation_prompt=False)
    head = text.rpartition(marker.content)[0]
    # The first token of a word includes its own space.
    return head.rstrip(" "), alone.rpartition(marker.content)[2].strip()
