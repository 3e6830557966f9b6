"""The story in a session's metadata: paths of cards, lorebooks and a persona, the user's name."""

from __future__ import annotations

import locale
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.terminal.text import printable

from .author_note import metadata, set_metadata
from .card import Card, read_card
from .card_fields import Fields, StoryError, one_line
from .lorebook import Lorebook, read_lorebook
from .persona import read_persona
from .story import USER, Story

_OURS = "franken_gguf_story"


def begin(
    conversation: Conversation,
    characters: Sequence[Path] = (),
    lorebooks: Sequence[Path] = (),
    user: str = "",
    date: str = "",
    persona: Path | None = None,
) -> None:
    """Set a conversation's cards, lorebooks, persona and user name; others stay as saved.

    The persona's name is the user's unless `user` is given.
    An empty conversation gets the first character's greeting, with `date`. Raises StoryError,
    naming the file.
    """
    cards = [read_card(path) for path in characters]
    for path in lorebooks:
        read_lorebook(path)
    if persona:
        user = user or read_persona(persona).name
    facts = dict(Fields(metadata(conversation), []).table(_OURS).members)
    for name, paths in (("characters", characters), ("lorebooks", lorebooks)):
        if paths:
            facts[name] = [str(path.resolve()) for path in paths]
    if persona:
        facts["persona"] = str(persona.resolve())
    if one_line(user):
        facts["user"] = one_line(user)
    if not facts:
        return
    facts.setdefault("salt", secrets.token_hex(8))
    set_metadata(conversation, **{_OURS: facts})
    fields = Fields(facts, [])
    story = Story(cards, user=fields.text("user") or USER, salt=fields.text("salt"))
    names = {"user_name": story.user}
    if story.card:
        names["character_name"] = story.card.char
    conversation.extra_fields = {**conversation.extra_fields, **names}
    if not conversation.messages:
        conversation.messages = greeting(story, date)


def files_of(conversation: Conversation) -> tuple[list[Path], list[Path]]:
    """The files of a story's cards and lorebooks."""
    facts = Fields(metadata(conversation), []).table(_OURS)
    cards, lorebooks = facts.texts("characters"), facts.texts("lorebooks")
    return list(map(Path, cards)), list(map(Path, lorebooks))


def set_files(
    conversation: Conversation, cards: Sequence[Path] | None, lorebooks: Sequence[Path] | None
) -> None:
    """Let a story have these cards and lorebooks; None leaves what it has."""
    facts = dict(Fields(metadata(conversation), []).table(_OURS).members)
    for name, paths in (("characters", cards), ("lorebooks", lorebooks)):
        if paths is not None:
            facts[name] = [str(path.resolve()) for path in paths]
    facts.setdefault("salt", secrets.token_hex(8))
    set_metadata(conversation, **{_OURS: facts})


def drop_persona(conversation: Conversation) -> None:
    """Let a story have no persona; the user's name stays."""
    facts = dict(Fields(metadata(conversation), []).table(_OURS).members)
    if facts.pop("persona", None):
        set_metadata(conversation, **{_OURS: facts})


def persona_of(conversation: Conversation) -> Path | None:
    """The file of a story's persona."""
    found = Fields(metadata(conversation), []).table(_OURS).text("persona")
    return Path(found) if found else None


def keep_files_in(conversation: Conversation, folder: Path) -> None:
    """Let a story have only files in `folder`: those of a chat from elsewhere could be any."""
    named = files_of(conversation)
    kept = [[path for path in paths if folder in path.resolve().parents] for paths in named]
    if kept != list(named):
        set_files(conversation, *kept)
    drop_persona(conversation)


def greeting(story: Story, date: str = "") -> list[Message]:
    """The character's first message, with its alternatives as swipes; empty if there is none."""
    texts = story.greetings()
    if not texts:
        return []
    extra_fields: dict[str, Any] = dict(story.answer().extra_fields)
    if len(texts) > 1:
        extra_fields |= {"swipes": texts, "swipe_id": 0}
    return [Message("assistant", texts[0], date, extra_fields)]


def opened(conversation: Conversation) -> Story:
    """The story of a conversation. Files that can no longer be read are reported in its remarks."""
    facts = Fields(metadata(conversation), []).table(_OURS)
    remarks: list[str] = []
    read = partial(read_card, language=_language())
    cards = _read(read, facts.texts("characters"), "--character", remarks)
    books = _read(read_lorebook, facts.texts("lorebooks"), "--lorebook", remarks)
    personas = _read(
        read_persona, list(filter(None, [facts.text("persona")])), "--persona", remarks
    )
    own = [card.book for card in cards if card.book]
    loaded: list[Card | Lorebook] = [*cards, *own, *books]
    remarks += [f"{one.name}: {remark}" for one in loaded for remark in one.remarks]
    user = one_line(facts.text("user")) or USER
    remarks = list(map(printable, remarks))  # paths come from the session file
    story = Story(
        cards,
        books,
        user=user,
        persona=personas[0].description if personas else "",
        salt=facts.text("salt"),
        remarks=remarks,
    )
    story.await_question(conversation.messages)
    return story


_Read = TypeVar("_Read")


def _language() -> str:
    """The user's language (ISO 639-1)."""
    return (locale.getlocale()[0] or "en")[:2].lower()


def _read(
    read: Callable[[Path], _Read], paths: Sequence[str], option: str, remarks: list[str]
) -> list[_Read]:
    found = []
    for path in paths:
        try:
            found.append(read(Path(path)))
        except StoryError as error:
            remarks.append(f"{error}; the story continues without it, {option} FILE adds it again")
    return found
