"""What the commands for cards, speakers, lore, note and memory do; they know no screen."""

from __future__ import annotations

import re
from pathlib import Path

from franken_gguf.runner.chat.answer import Answer, now
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.replay import Replay
from franken_gguf.runner.story import story_changes
from franken_gguf.runner.story.active_lore import LoreMatch
from franken_gguf.runner.story.author_note import DEPTH, Note, note_of, set_note
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.message_layout import before_the_end
from franken_gguf.runner.story.persona import persona_names, persona_path
from franken_gguf.runner.story.story import Story

from .general_commands import CommandError, Outcome, as_line

OFF, ADD, REMOVE = "off", "add", "remove"
_LISTED = 20


def character(dialogue: Dialogue, what: str) -> Outcome:
    """Add or remove a character, or show a card, by default that of who answers next."""
    verb, given = _change(what)
    if verb == ADD:
        return _add_character(dialogue, Path(given).expanduser())
    if verb == REMOVE:
        return _remove_character(dialogue, given)
    story = dialogue.chat.story
    story.await_question(dialogue.chat.conversation.messages)
    return _card(story, what)


def _add_character(dialogue: Dialogue, path: Path) -> Replay:
    conversation = dialogue.chat.conversation
    count = len(conversation.messages)
    card = story_changes.add_character(conversation, path, now())
    dialogue.reopen_story()
    notices = [*card.remarks, f"{card.char} is now in the story; /as {card.char} lets them speak"]
    greeting = [as_line(dialogue, one) for one in conversation.messages[count:]]
    return Replay("\n".join(notices), tuple(greeting))


def _remove_character(dialogue: Dialogue, name: str) -> str:
    conversation = dialogue.chat.conversation
    name = story_changes.remove_character(conversation, name)
    dialogue.reopen_story()
    return f"{name} is no longer in the story; their turns stay"


def character_choices(dialogue: Dialogue) -> list[str]:
    """What can follow /character."""
    return [*names(dialogue), f"{ADD} ", *(f"{REMOVE} {name}" for name in names(dialogue))]


def persona(dialogue: Dialogue, name: str) -> str:
    """Show who the user is, take a persona from a file or the library, or have none."""
    conversation, story = dialogue.chat.conversation, dialogue.chat.story
    if not name:
        known = f"; in the library: {', '.join(persona_names())}" if persona_names() else ""
        about = story.persona or f"no persona; /persona FILE sets one{known}"
        return f"you are {story.user}\n{about}"
    story_changes.set_persona(conversation, None if name == OFF else persona_path(name))
    dialogue.reopen_story()
    if name == OFF:
        return f"no persona; you are {story.user}"
    return f"you are now {dialogue.chat.story.user}"


def lorebook(dialogue: Dialogue, what: str) -> str:
    """List the lorebooks, or add or remove one."""
    conversation = dialogue.chat.conversation
    verb, given = _change(what)
    if verb == ADD:
        book = story_changes.add_lorebook(conversation, Path(given).expanduser())
        notices = [*book.remarks, f"added {book.name}: {_entries(len(book.entries))}"]
    elif verb == REMOVE:
        notices = [f"removed {story_changes.remove_lorebook(conversation, given)}"]
    elif what in ("", "list"):
        return _lorebooks(dialogue)
    else:
        raise CommandError(f"use /lorebook, /lorebook {ADD} FILE or /lorebook {REMOVE} NAME")
    dialogue.reopen_story()
    return "\n".join(notices)


def _lorebooks(dialogue: Dialogue) -> str:
    own = [
        f"{card.book.name}: {_entries(len(card.book.entries))}, of {card.char}'s card"
        for card in dialogue.chat.story.cards
        if card.book
    ]
    added = story_changes.lorebook_names(dialogue.chat.conversation)
    return "\n".join([*own, *added]) or f"no lorebooks; /lorebook {ADD} FILE adds one"


def lorebook_choices(dialogue: Dialogue) -> list[str]:
    """What can follow /lorebook."""
    added = story_changes.lorebook_names(dialogue.chat.conversation)
    return ["list", f"{ADD} ", *(f"{REMOVE} {name}" for name in added)]


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _change(what: str) -> tuple[str, str]:
    """A verb and what follows it, without quotes; two empty texts if there is no verb."""
    verb, _, given = what.partition(" ")
    if verb not in (ADD, REMOVE):
        return "", ""
    given = given.strip()
    if len(given) > 1 and given[0] == given[-1] == '"':
        given = given[1:-1]
    if not given:
        raise CommandError(f"{verb} needs a {'FILE' if verb == ADD else 'NAME'}")
    return verb, given


def speak_as(dialogue: Dialogue, name: str) -> Answer:
    """An answer by the character called `name`, without a question."""
    return dialogue.chat.speak(_card(dialogue.chat.story, name).char)


def speak_next(dialogue: Dialogue, _: str) -> Answer:
    """An answer by the next character in turn, without a question."""
    card = _card(dialogue.chat.story, "")
    if not dialogue.chat.story.is_group:
        raise CommandError(f"{card.char} is the only character; /continue lengthens the answer")
    return dialogue.chat.speak()


def names(dialogue: Dialogue) -> list[str]:
    """The names of all characters in the story."""
    return [card.char for card in dialogue.chat.story.cards]


def _card(story: Story, name: str) -> Card:
    if story.card is None:
        raise CommandError(
            f"no character is loaded; start with --character CARD, or use /character {ADD} CARD"
        )
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
        raise CommandError(
            f"no lorebook is loaded; start with --lorebook FILE, or use /lorebook {ADD} FILE"
        )
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
    return f"{before_the_end(note.depth)} (depth {note.depth})"


def memory(dialogue: Dialogue, text: str) -> str:
    """Show the memory, which the model reads before the messages, set it, or remove it."""
    conversation = dialogue.chat.conversation
    if not text:
        return conversation.memory or "no memory; set it with /memory TEXT"
    conversation.memory = "" if text == OFF else text
    return "memory removed" if text == OFF else "memory set"
