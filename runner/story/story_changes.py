"""Characters, lorebooks and the persona of a story, changed while it is told.

Messages stay as they are, with the names of those who wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from franken_gguf.runner.conversation.conversation import Conversation

from .card import Card, read_card
from .card_fields import StoryError
from .lorebook import Lorebook, read_lorebook
from .saved_story import begin, drop_persona, files_of, opened, set_files


def add_character(conversation: Conversation, path: Path, date: str = "") -> Card:
    """Add the card in a file; an empty conversation gets its greeting. Raises StoryError."""
    card, (paths, _) = read_card(path), files_of(conversation)
    if card.char in [one.char for one in opened(conversation).cards]:
        raise StoryError(f"{path}: {card.char} is in the story already")
    if paths or conversation.messages:
        set_files(conversation, [*paths, path], None)
    else:
        begin(conversation, [path], date=date)
    return card


def remove_character(conversation: Conversation, name: str) -> str:
    """Remove a character, by its name or that of its file; returns the name. Raises StoryError."""
    paths, _ = files_of(conversation)
    place, found = _place(paths, _card_names, name, "character")
    set_files(conversation, [*paths[:place], *paths[place + 1 :]], None)
    return found


def add_lorebook(conversation: Conversation, path: Path) -> Lorebook:
    """Add the lorebook in a file. Raises StoryError."""
    book, (_, paths) = read_lorebook(path), files_of(conversation)
    if path.resolve() in paths:
        raise StoryError(f"{path}: this lorebook is in the story already")
    set_files(conversation, None, [*paths, path])
    return book


def remove_lorebook(conversation: Conversation, name: str) -> str:
    """Remove a lorebook, by its name or that of its file; returns the name. Raises StoryError."""
    _, paths = files_of(conversation)
    place, found = _place(paths, _book_names, name, "lorebook")
    set_files(conversation, None, [*paths[:place], *paths[place + 1 :]])
    return found


def lorebook_names(conversation: Conversation) -> list[str]:
    """The names of the lorebooks beside the cards' own."""
    return [_book_names(path)[0] for path in files_of(conversation)[1]]


def set_persona(conversation: Conversation, path: Path | None) -> None:
    """Let the user be the persona in a file; None for no persona. Raises StoryError."""
    if path is None:
        drop_persona(conversation)
        return
    before = opened(conversation).user
    begin(conversation, persona=path)
    conversation.messages = [
        replace(one, extra_fields={"name": before, **one.extra_fields})
        if one.role == "user"
        else one
        for one in conversation.messages
    ]


def _place(
    paths: Sequence[Path], names_of: Callable[[Path], list[str]], wanted: str, what: str
) -> tuple[int, str]:
    """The index of the file that has a name, and its first name. Raises StoryError."""
    all_names = [names_of(path) for path in paths]
    for place, names in enumerate(all_names):
        if wanted.casefold() in map(str.casefold, names):
            return place, names[0]
    choice = ", ".join(names[0] for names in all_names)
    hint = f"choose {choice}" if choice else "there are none"
    raise StoryError(f"no {what} is named {wanted!r}; {hint}")


def _card_names(path: Path) -> list[str]:
    with suppress(StoryError):
        card = read_card(path)
        return [card.char, card.name, path.stem, path.name]
    return [path.stem, path.name]


def _book_names(path: Path) -> list[str]:
    with suppress(StoryError):
        return [read_lorebook(path).name, path.stem, path.name]
    return [path.stem, path.name]
