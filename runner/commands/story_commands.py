"""What the commands for cards, speakers, lore, note and memory do; they know no screen."""

from __future__ import annotations

import re

from franken_gguf.runner.chat.answer import Answer
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.story.active_lore import LoreMatch
from franken_gguf.runner.story.author_note import DEPTH, Note, note_of, set_note
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.story import Story

from .general_commands import CommandError

OFF = "off"
_LISTED = 20


def character(dialogue: Dialogue, name: str) -> Card:
    """The card of the character that speaks next, or of the one called `name`."""
    return _card(dialogue.chat.story, name)


def speak_as(dialogue: Dialogue, name: str) -> Answer:
    """An answer by the character called `name`, who then keeps speaking."""
    story = dialogue.chat.story
    story.speaker = story.cards.index(_card(story, name))
    return dialogue.chat.speak()


def names(dialogue: Dialogue) -> list[str]:
    """The names of all characters in the story."""
    return [card.char for card in dialogue.chat.story.cards]


def _card(story: Story, name: str) -> Card:
    if story.card is None:
        raise CommandError("no character is loaded; start with --character CARD")
    if not name:
        return story.card
    wanted = name.casefold()
    for card in story.cards:
        if wanted in (card.char.casefold(), card.name.casefold()):
            return card
    near = [card for card in story.cards if card.char.casefold().startswith(wanted)]
    if len(near) == 1:
        return near[0]
    names = ", ".join(card.char for card in story.cards)
    raise CommandError(f"no character is named {name!r}; choose {names}")


def lore(dialogue: Dialogue, _: str) -> str:
    """Which lore is active and why, and which matched but stays inactive."""
    story, conversation = dialogue.chat.story, dialogue.chat.conversation
    if not story.lore:
        raise CommandError("no lorebook is loaded; start with --lorebook FILE")
    if not story.has_matched_lore:
        story.read(conversation, conversation.messages, conversation.forgotten)
    active = [match for match in story.lore_matches if match.is_active]
    inactive = [match for match in story.lore_matches if not match.is_active]
    tokens = sum(story.count_tokens(match.text) for match in active)
    head = f"active: {len(active)} of {len(story.lore)} entries, {tokens} of {story.budget} tokens"
    lines = [head, *_listed(active)]
    if inactive:
        lines += [f"matched but inactive: {len(inactive)}", *_listed(inactive)]
    return "\n".join(lines)


def _listed(matches: list[LoreMatch]) -> list[str]:
    shown = matches[:_LISTED]
    width = min(24, max((len(match.entry.label) for match in shown), default=0))
    lines = [f"  {match.entry.label[:width]:{width}}  {match.reason}" for match in shown]
    return lines + [f"  and {len(matches) - _LISTED} more"] * (len(matches) > _LISTED)


def note(dialogue: Dialogue, text: str) -> str:
    """Show the author's note, set it, or remove it."""
    conversation = dialogue.chat.conversation
    if not text:
        found = note_of(conversation)
        return f"{found.text}\n{_where(found)}" if found else "no note; set one with /note TEXT"
    if text == OFF:
        set_note(conversation, None)
        return "note removed"
    new = parsed_note(text)
    set_note(conversation, new)
    return f"note set {_where(new)}"


def parsed_note(text: str) -> Note:
    """The note in an argument: TEXT, "TEXT", TEXT DEPTH or "TEXT" DEPTH."""
    found = re.fullmatch(r"(.*\S)\s+(\d{1,4})", text, re.DOTALL)
    text, depth = (found[1], int(found[2])) if found else (text, DEPTH)
    quoted = re.fullmatch(r'"(.+)"', text, re.DOTALL)
    return Note(quoted[1] if quoted else text, depth)


def _where(note: Note) -> str:
    if note.depth == 0:
        return "after the last message (depth 0)"
    count = "1 message" if note.depth == 1 else f"{note.depth} messages"
    return f"{count} before the end (depth {note.depth})"


def memory(dialogue: Dialogue, text: str) -> str:
    """Show the memory, which the model reads before the messages, set it, or remove it."""
    conversation = dialogue.chat.conversation
    if not text:
        return conversation.memory or "no memory; set it with /memory TEXT"
    conversation.memory = "" if text == OFF else text
    return "memory removed" if text == OFF else "memory set"
