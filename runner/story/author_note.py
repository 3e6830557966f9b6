"""The author's note of a conversation, in SillyTavern's metadata fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from franken_gguf.runner.conversation.conversation import Conversation

from .card_fields import Fields

DEPTH = 4
_IN_CHAT, _AS_SYSTEM = 1, 0  # SillyTavern's note_position and note_role


@dataclass(frozen=True)
class Note:
    """A text that is inserted `depth` messages before the end."""

    text: str
    depth: int = DEPTH


def note_of(conversation: Conversation) -> Note | None:
    """The conversation's note; None if it has none or it is switched off."""
    fields = Fields(metadata(conversation), [])
    text = fields.text("note_prompt").strip()
    if not text or not fields.whole("note_interval", 1):
        return None
    return Note(text, fields.whole("note_depth", DEPTH, high=9999))


def set_note(conversation: Conversation, note: Note | None) -> None:
    """Set the conversation's note, or remove it."""
    text, depth = (note.text, note.depth) if note else ("", DEPTH)
    set_metadata(
        conversation,
        note_prompt=text,
        note_depth=depth,
        note_interval=1,
        note_position=_IN_CHAT,
        note_role=_AS_SYSTEM,
    )


def metadata(conversation: Conversation) -> Mapping[str, Any]:
    """The metadata of the whole chat (SillyTavern's chat_metadata)."""
    found = conversation.extra_fields.get("chat_metadata")
    return found if isinstance(found, dict) else {}


def set_metadata(conversation: Conversation, **members: Any) -> None:
    """Set members of the chat's metadata."""
    conversation.extra_fields = {
        **conversation.extra_fields,
        "chat_metadata": {**metadata(conversation), **members},
    }
