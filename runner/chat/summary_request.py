"""The request for a summary of the turns that leave the context; pure."""

from __future__ import annotations

from collections.abc import Sequence

from franken_gguf.runner.conversation.conversation import NOTE, Message
from franken_gguf.runner.conversation.thoughts import answer_of

_REQUEST = (
    "Summarize the conversation below in at most {words} words, so that it can go on from your "
    "summary alone: who is who, what happened, what was decided, what is still open. "
    "Write the summary and nothing else.\n\n{text}"
)


def request(text: str, max_tokens: int) -> str:
    """The request for a summary of `text` in about `max_tokens` tokens."""
    # A little fewer words than tokens, so that the summary ends before it is cut.
    return _REQUEST.format(words=max(10, max_tokens // 2), text=text)


def transcript(memory: str, messages: Sequence[Message]) -> str:
    """The text to summarize: the last summary and the messages that leave the context."""
    lines = (_line(message) for message in messages if message.role != NOTE)
    return "\n\n".join(filter(None, (memory, *lines)))


def _line(message: Message) -> str:
    name = message.extra_fields.get("name") or message.role.capitalize()
    return f"{name}: {answer_of(message.content)}"
