"""What the commands of a story do: cards, lore, note, memory, voices; knows no screen."""

from __future__ import annotations

import re

from franken_gguf.runner.chat.answer import Answer
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.story.active_lore import Called
from franken_gguf.runner.story.author_note import DEPTH, Note, note_of, set_note
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.story import Story

from .general_commands import CommandError

OFF = "off"
_LISTED = 20


def character(dialogue: Dialogue, name: str) -> Card:
    """The card that speaks next, or the one of that name."""
    return _card(dialogue.chat.story, name)


def speak_as(dialogue: Dialogue, name: str) -> Answer:
    """Let a character speak next, now."""
    story = dialogue.chat.story
    story.speaker = story.cards.index(_card(story, name))
    return dialogue.chat.speak()


def names(dialogue: Dialogue) -> list[str]:
    """The names of the characters that play."""
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
    playing = ", ".join(card.char for card in story.cards)
    raise CommandError(f"no character is named {name!r}; choose {playing}")


def lore(dialogue: Dialogue, _: str) -> str:
    """Which lore is active and why, and which matched but stays inactive."""
    story, conversation = dialogue.chat.story, dialogue.chat.conversation
    if not story.lore:
        raise CommandError("no lorebook is loaded; start with --lorebook FILE")
    if not story.has_called:
        story.read(conversation, conversation.messages, conversation.forgotten)
    active = [one for one in story.called if one.is_active]
    away = [one for one in story.called if not one.is_active]
    tokens = sum(story.count_tokens(one.text) for one in active)
    head = f"active: {len(active)} of {len(story.lore)} entries, {tokens} of {story.budget} tokens"
    lines = [head, *_listed(active)]
    if away:
        lines += [f"matched but inactive: {len(away)}", *_listed(away)]
    return "\n".join(lines)


def _listed(called: list[Called]) -> list[str]:
    shown = called[:_LISTED]
    width = min(24, max((len(one.entry.label) for one in shown), default=0))
    lines = [f"  {one.entry.label[:width]:{width}}  {one.reason}" for one in shown]
    return lines + [f"  and {len(called) - _LISTED} more"] * (len(called) > _LISTED)


def note(dialogue: Dialogue, text: str) -> str:
    """Show the author's note, set it, or remove it."""
    conversation = dialogue.chat.conversation
    if not text:
        found = note_of(conversation)
        return f"{found.text}\n({_where(found)})" if found else "no note; set one with /note TEXT"
    if text == OFF:
        set_note(conversation, None)
        return "note removed"
    made = parsed_note(text)
    set_note(conversation, made)
    return f"note set {_where(made)}"


def parsed_note(text: str) -> Note:
    """TEXT, "TEXT", TEXT DEPTH or "TEXT" DEPTH."""
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
    """Show what the model remembers beside the messages, set it, or remove it."""
    conversation = dialogue.chat.conversation
    if not text:
        return conversation.memory or "no memory; set it with /memory TEXT"
    conversation.memory = "" if text == OFF else text
    return "memory removed" if text == OFF else "memory set"
