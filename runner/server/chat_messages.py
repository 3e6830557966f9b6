"""The messages of a chat request, in OpenAI's form, as the template takes them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from franken_gguf.runner.conversation.conversation import Message

from .bodies import Fields, clean, wrong

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_OTHER_ROLES = ("tool", "function")
_MAX_MESSAGES = 20_000


@dataclass(frozen=True)
class Turns:
    """The messages that a prompt is made of."""

    messages: tuple[Message, ...]
    prefix: str = ""
    """What the answer begins with: a last message by the assistant, which is continued."""
    has_answer: bool = True
    """Whether the prompt ends where the assistant's next answer begins."""


def turns_of(fields: Fields) -> Turns:
    """The turns of a chat request. Raises RequestError."""
    found = fields.items("messages")
    if not found:
        wrong("messages", "a list of at least one message")
    if len(found) > _MAX_MESSAGES:
        wrong("messages", f"at most {_MAX_MESSAGES} messages")
    messages = tuple(_message(one, f"messages[{n}]") for n, one in enumerate(found))
    continues = fields.flag("continue_final_message")
    if continues and fields.flag("add_generation_prompt"):
        wrong("continue_final_message", "false if add_generation_prompt is true")
    has_answer = continues or fields.flag("add_generation_prompt", True)
    last = messages[-1]
    if has_answer and last.role == "assistant" and last.content and len(messages) > 1:
        return Turns(messages[:-1], last.content)
    return Turns(messages, has_answer=has_answer)


def _message(found: object, name: str) -> Message:
    if not isinstance(found, dict):
        wrong(name, "an object with role and content")
    role = found.get("role")
    if not isinstance(role, str) or role not in (*_ROLES, *_OTHER_ROLES):
        wrong(f"{name}.role", "system, user or assistant")
    return Message(_ROLES.get(role, role), _content(found.get("content"), f"{name}.content"))


def _content(found: Any, name: str) -> str:
    if found is None:
        return ""
    if isinstance(found, str):
        return clean(found)
    if not isinstance(found, list):
        wrong(name, "a text or a list of parts")
    parts = []
    for part in found:
        if not isinstance(part, dict) or part.get("type") not in ("text", "input_text"):
            wrong(name, "text: this model reads neither pictures nor sound")
        parts.append(Fields(part).text("text"))
    return "\n".join(parts)
