"""Stories, cards and lorebooks as the JSON of docs/serving-api.md."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.conversation.session_format import encode, names
from franken_gguf.runner.conversation.swipes import swipes
from franken_gguf.runner.story.author_note import DEPTH, note_of
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.lorebook import Lorebook
from franken_gguf.runner.story.saved_story import files_of, opened, persona_of
from franken_gguf.runner.story.turn_order import next_speaker


def revision(conversation: Conversation) -> str:
    """A hash of a story, which changes with it."""
    content = encode(conversation).encode(errors="replace")
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def story_view(name: str, conversation: Conversation, tree: Sequence[tuple[int, str]]) -> Any:
    """A whole story; `tree` has the depth and name of all that it shares a beginning with."""
    story = opened(conversation)
    note, persona = note_of(conversation), persona_of(conversation)
    cards, lorebooks = files_of(conversation)
    card_names = {card.path: card.name for card in story.cards}
    return {
        "name": name,
        "revision": revision(conversation),
        "system": conversation.system,
        "memory": conversation.memory,
        "note": {"text": note.text if note else "", "depth": note.depth if note else DEPTH},
        "user": story.user,
        "persona": persona.stem if persona else "",
        "cards": [{"id": path.stem, "name": card_names.get(path, path.name)} for path in cards],
        "lorebooks": [{"id": path.stem, "name": path.name} for path in lorebooks],
        "speakers": [card.char for card in story.cards],
        "next_speaker": story.card.char if story.card else "",
        "next_in_turn": _next_in_turn(story.cards, conversation.messages),
        "forgotten": conversation.forgotten,
        "messages": message_views(conversation),
        "tree": [{"name": one, "depth": depth} for depth, one in tree],
        "remarks": story.remarks,
    }


def _next_in_turn(cards: Sequence[Card], messages: Sequence[Message]) -> str:
    """Who speaks if the user writes nothing."""
    return cards[next_speaker(cards, messages)].char if cards else ""


def message_views(conversation: Conversation) -> list[dict[str, Any]]:
    """All messages of a story."""
    user, character = names(conversation)
    return [
        message_view(message, user if message.role == "user" else character)
        for message in conversation.messages
    ]


def message_view(message: Message, name: str) -> dict[str, Any]:
    """One message, by `name` unless it has a name itself."""
    texts, place = swipes(message)
    extra = message.extra_fields.get("extra")
    branches = extra.get("branches") if isinstance(extra, dict) else None
    said_by = message.extra_fields.get("name")
    return {
        "role": message.role,
        "name": said_by if isinstance(said_by, str) and said_by else name,
        "text": message.content,
        "date": message.date,
        "swipes": texts,
        "swipe": place,
        "branches": [one for one in branches if isinstance(one, str)]
        if isinstance(branches, list)
        else [],
    }


def card_view(number: str, card: Card, *, is_whole: bool = False) -> dict[str, Any]:
    """A card of the library; `is_whole` with its texts."""
    view: dict[str, Any] = {
        "id": number,
        "name": card.name,
        "creator": card.creator,
        "tags": list(card.tags),
        "has_picture": card.path is not None,
        "greetings": len(card.greetings),
        "notes": card.creator_notes,
        "remarks": list(card.remarks),
    }
    if is_whole:
        view |= {
            "description": card.description,
            "personality": card.personality,
            "scenario": card.scenario,
            "first_mes": card.greetings[0] if card.greetings else "",
            "alternate_greetings": list(card.greetings[1:]),
            "mes_example": card.mes_example,
            "lore_entries": len(card.book.entries) if card.book else 0,
        }
    return view


def lorebook_view(number: str, book: Lorebook, *, is_whole: bool = False) -> dict[str, Any]:
    """A lorebook of the library; `is_whole` with its entries."""
    view: dict[str, Any] = {
        "id": number,
        "name": book.name,
        "entries": len(book.entries),
        "remarks": list(book.remarks),
    }
    if is_whole:
        view["items"] = [
            {"keys": [key.text for key in entry.keys], "text": entry.content}
            for entry in book.entries
        ]
    return view
