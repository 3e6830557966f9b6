"""Where a story's texts are placed among the messages that a model reads; pure.

Text that rarely changes is in the system text at the front and stays evaluated from turn to turn.
Text that changes (notes, newly matched lore) is inserted near the end, so that little after it is
evaluated again. It becomes part of the nearest user message, in brackets: many templates refuse or
drop a system message in the middle of a chat, and some refuse two user messages in a row.
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
class Paragraph:
    """A text that the model reads beside the messages: of which kind, what of, and why."""

    kind: str
    """"system", "card", "persona", "lore", "memory" or "note"."""
    name: str
    text: str
    why: str


@dataclass(frozen=True)
class Insert:
    """A text to insert `depth` messages before the end; 0 is after the last message."""

    text: str
    depth: int


def description(card: Card, expand: Callable[[str], str]) -> str:
    """The paragraphs that describe a character."""
    personality, scenario = expand(card.personality).strip(), expand(card.scenario).strip()
    return joined(
        (
            expand(card.description),
            f"{card.char}'s personality: {personality}" if personality else "",
            f"Scenario: {scenario}" if scenario else "",
        )
    )


def examples(card: Card, expand: Callable[[str], str]) -> str:
    """A card's example conversations, separated by lines of three asterisks."""
    blocks = list(filter(None, _START.split(expand(card.mes_example).strip())))
    return "\n***\n".join([f"Examples of how {card.char} talks:", *blocks]) if blocks else ""


def joined(paragraphs: Iterable[str]) -> str:
    """The paragraphs that are not empty, as one text."""
    return "\n\n".join(filter(None, (one.strip() for one in paragraphs)))


def before_the_end(depth: int) -> str:
    """Where an insert of this depth stands, in words."""
    if depth == 0:
        return "after the last message"
    return f"{'1 message' if depth == 1 else f'{depth} messages'} before the end"


def bracketed(text: str) -> str:
    """`text` in brackets, unless it starts with one: a direction, not speech."""
    return text if text.startswith("[") else f"[{text}]"


def with_inserts(messages: Sequence[Message], inserts: Iterable[Insert]) -> list[Message]:
    """`messages` with each insert at its depth; inserts of one depth keep their order."""
    first = 1 if messages and messages[0].role == "system" else 0
    at: dict[int, list[str]] = {}
    for insert in inserts:
        place = max(first, len(messages) - insert.depth)
        at.setdefault(place, []).append(bracketed(insert.text.strip()))
    result = list(messages)
    for place in sorted(at, reverse=True):  # from the end, so that earlier indices stay valid
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
    """The message with its speaker's name in front, as in a group chat."""
    if message.role not in ("user", "assistant"):
        return message
    name = message.extra_fields.get("name") or (user if message.role == "user" else char)
    return replace(message, content=f"{name}: {message.content}")
