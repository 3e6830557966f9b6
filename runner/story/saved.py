"""What a session says of its story: which cards and books, and who the user is."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from franken_gguf.runner.conversation import Conversation, Message

from .card import Card, read_card
from .fields import Fields, StoryError, one_line
from .story import USER, Story

_OURS = "franken_gguf_story"


def begin(
    conversation: Conversation, characters: Sequence[Path] = (), user: str = "", date: str = ""
) -> None:
    """Let a conversation tell of these characters; what is not given stays as the session has it.

    One in which nothing was said yet begins with the first character's greeting. Raises
    StoryError, naming the file.
    """
    cards = [read_card(path) for path in characters]
    facts = dict(_metadata(conversation).get(_OURS) or {})
    if cards:
        facts["characters"] = [str(path.resolve()) for path in characters]
    if one_line(user):
        facts["user"] = one_line(user)
    if not facts:
        return
    facts.setdefault("salt", secrets.token_hex(8))
    _keep(conversation, _OURS, facts)
    story = opened(conversation)
    names = {"user_name": story.user}
    if story.card:
        names["character_name"] = story.card.name
    conversation.kept = {**conversation.kept, **names}
    if not conversation.messages:
        conversation.messages = greeting(story, date)


def greeting(story: Story, date: str = "") -> list[Message]:
    """The character's first message, its alternatives as SillyTavern's swipes; none without one."""
    texts = story.greetings()
    if not texts:
        return []
    kept: dict[str, Any] = dict(story.answer().kept)
    if len(texts) > 1:
        kept |= {"swipes": texts, "swipe_id": 0}
    return [Message("assistant", texts[0], date, kept)]


def opened(conversation: Conversation) -> Story:
    """The story that a conversation tells. What cannot be read any more stands in its remarks."""
    facts = Fields(_metadata(conversation), []).table(_OURS)
    cards: list[Card] = []
    remarks: list[str] = []
    for path in facts.texts("characters"):
        try:
            cards.append(read_card(Path(path)))
        except StoryError as error:
            remarks.append(f"{error}; --character names it anew, the story goes on without")
    remarks += [f"{card.name}: {remark}" for card in cards for remark in card.remarks]
    user = one_line(facts.text("user")) or USER
    return Story(cards, user=user, salt=facts.text("salt"), remarks=remarks)


def _metadata(conversation: Conversation) -> Mapping[str, Any]:
    found: Mapping[str, Any] = conversation.kept.get("chat_metadata") or {}
    return found


def _keep(conversation: Conversation, name: str, value: Any) -> None:
    metadata = {**_metadata(conversation), name: value}
    conversation.kept = {**conversation.kept, "chat_metadata": metadata}
