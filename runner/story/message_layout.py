"""Where a story's texts stand among the messages that a model reads; pure.

What changes seldom stands in front, in the system text, and stays evaluated from turn to turn.
What changes (notes, lore that was just called for) stands near the end, so that little after it is
evaluated again. There it is a part of the nearest user message, in brackets: many templates take
no system message in mid-conversation, or leave it out, and none takes two user messages for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from franken_gguf.runner.conversation.conversation import Message

from .card import Card

BASE = (
    "Write {{char}}'s next words and deeds in a story told together with {{user}}. "
    "Leave what {{user}} says and does to {{user}}."
)
GROUP_BASE = (
    "Write a story together with {{user}}: the words and deeds of {{group}}, each when it is "
    "their turn. Leave what {{user}} says and does to {{user}}."
)
_START = re.compile(r"\s*<START>\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Insert:
    """A text that stands `depth` messages before the end; 0 is after the last."""

    text: str
    depth: int


def description(
    card: Card, expand: Callable[[str], str], before: Iterable[str] = (), after: Iterable[str] = ()
) -> list[str]:
    """What a card says of its character, paragraph by paragraph, lore before and after it."""
    personality, scenario = expand(card.personality).strip(), expand(card.scenario).strip()
    return [
        *before,
        expand(card.description).strip(),
        f"{card.char}'s personality: {personality}" if personality else "",
        f"Scenario: {scenario}" if scenario else "",
        *after,
    ]


def examples(card: Card, expand: Callable[[str], str]) -> str:
    """A card's example conversations, a paragraph each."""
    blocks = list(filter(None, _START.split(expand(card.mes_example).strip())))
    return "\n***\n".join([f"Examples of how {card.char} talks:", *blocks]) if blocks else ""


def joined(paragraphs: Iterable[str]) -> str:
    """Paragraphs as one text, without the empty ones."""
    return "\n\n".join(filter(None, (one.strip() for one in paragraphs)))


def bracketed(text: str) -> str:
    """`text` as a direction, not speech: in brackets, unless it has its own."""
    return text if text.startswith("[") else f"[{text}]"


def with_inserts(messages: Sequence[Message], inserts: Iterable[Insert]) -> list[Message]:
    """`messages` with each insert's text at its depth, those of one depth in their order."""
    first = 1 if messages and messages[0].role == "system" else 0
    at: dict[int, list[str]] = {}
    for insert in inserts:
        place = max(first, len(messages) - insert.depth)
        at.setdefault(place, []).append(bracketed(insert.text.strip()))
    result = list(messages)
    for place in sorted(at, reverse=True):  # from the end: earlier places stay what they are
        text = "\n\n".join(at[place])
        following = messages[place] if place < len(messages) else None
        if following and following.role == "user":
            result[place] = _with_text(result[place], text, is_before=True)
        elif place > first and messages[place - 1].role == "user":
            result[place - 1] = _with_text(result[place - 1], text, is_before=False)
        else:
            result.insert(place, Message("user", text))
    return result


def _with_text(message: Message, text: str, *, is_before: bool) -> Message:
    parts = (text, message.content) if is_before else (message.content, text)
    return replace(message, content="\n\n".join(parts))


def named(message: Message, user: str, char: str) -> Message:
    """A message that begins with its speaker's name, as in a group."""
    if message.role not in ("user", "assistant"):
        return message
    name = message.extra_fields.get("name") or (user if message.role == "user" else char)
    return replace(message, content=f"{name}: {message.content}")
