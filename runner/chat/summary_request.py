"""What the model is asked when turns leave its context: the words of a summary's request; pure."""

from __future__ import annotations

from collections.abc import Sequence

from franken_gguf.runner.conversation.conversation import NOTE, Message

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
    """What is to be summarized: the last summary and the messages that leave."""
    lines = [
        f"{message.extra_fields.get('name') or message.role.capitalize()}: {message.content}"
        for message in messages
        if message.role != NOTE
    ]
    return "\n\n".join(filter(None, (memory, *lines)))
