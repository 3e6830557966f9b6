"""A story: who plays in it, and what a model reads of the conversation that tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from franken_gguf.runner.conversation.conversation import NOTE, Conversation, Message

from .active_lore import Called, Lore, Moment
from .author_note import note_of
from .card import Card
from .card_fields import Fields
from .lorebook import Lorebook
from .macros import Macros
from .message_layout import (
    BASE,
    GROUP_BASE,
    Insert,
    description,
    examples,
    joined,
    named,
    with_inserts,
)

USER = "User"
_NOBODY = Card("Assistant", "")
_LORE_DEPTH = 1  # before the last message, the user's: what is evaluated again is little
_STARTED = "franken_gguf_lore"  # in a message's "extra": entries whose time began with it


class Story:
    """Characters, played for `user`; without any it is a conversation as it was said.

    `speaker` is the index of the card that speaks next. `salt` makes one story's {{pick}}s differ
    from another's. `remarks` are what could not be read or is not done, a line each.
    """

    def __init__(
        self,
        cards: Sequence[Card] = (),
        books: Sequence[Lorebook] = (),
        *,
        user: str = USER,
        salt: str = "",
        remarks: Sequence[str] = (),
    ) -> None:
        self.cards = tuple(cards)
        self.user = user
        self.salt = salt
        self.speaker = 0
        self.remarks = list(remarks)
        self.count_tokens: Callable[[str], int] = len
        self.budget = 1 << 30
        """Tokens for all lore together."""
        self.called: list[Called] = []
        """What lore the latest moment called for."""
        self._called_for: tuple[str, ...] | None = None
        names = self._macros(self.cards[0] if self.cards else _NOBODY, "keys")
        self.lore = Lore([*(card.book for card in self.cards if card.book), *books], names.expand)

    @property
    def card(self) -> Card | None:
        """The card that speaks next, None where there are no characters."""
        return self.cards[self.speaker] if self.cards else None

    @property
    def is_group(self) -> bool:
        """Whether there are several characters, and so each message is read with its name."""
        return len(self.cards) > 1

    @property
    def opening(self) -> str:
        """What the next answer begins with before its first word; no part of what is said."""
        return f"{self.card.char}:" if self.card and self.is_group else ""

    @property
    def stops(self) -> tuple[str, ...]:
        """Where an answer ends, since somebody else would speak."""
        if not self.cards:
            return ()
        others = [card.char for card in self.cards if self.is_group and card is not self.card]
        return tuple(f"\n{name}:" for name in (self.user, *others))

    @property
    def has_called(self) -> bool:
        """Whether lore was looked for yet."""
        return self._called_for is not None

    def answer(self) -> Message:
        """The message that the next answer fills."""
        return Message("assistant", "", extra_fields={"name": self.card.char} if self.card else {})

    def set_speaker(self, message: Message) -> None:
        """Let the character who said `message` be the one that speaks next."""
        for number, card in enumerate(self.cards):
            if message.extra_fields.get("name") in (card.char, card.name):
                self.speaker = number

    def speaker_of(self, message: Message) -> str:
        """Which of the characters said `message`; "" where it was none of them."""
        name = message.extra_fields.get("name")
        return next((card.char for card in self.cards if name in (card.char, card.name)), "")

    def with_lore_starts(self, messages: list[Message]) -> list[Message]:
        """`messages` to be saved; the last records entries whose sticky or cooldown time starts."""
        self._call(messages)
        uids = [one.entry.uid for one in self.called if one.starts]
        if not uids:
            return messages
        last = messages[-1]
        extra = {**_extra(last), _STARTED: uids}
        return [*messages[:-1], replace(last, extra_fields={**last.extra_fields, "extra": extra})]

    def read(
        self, conversation: Conversation, said: Sequence[Message], forgotten: int
    ) -> list[Message]:
        """What the model reads of `said`, without the first `forgotten` messages of it."""
        self._call(said)
        system = self._system(conversation.system, has_examples=not forgotten)
        messages = conversation.read_by_model(said, forgotten, system)
        if self.card and self.is_group:
            messages = [named(one, self.user, self.card.char) for one in messages]
        return with_inserts(messages, self._inserts(conversation, len(said)))

    def _call(self, said: Sequence[Message]) -> None:
        contents = tuple(message.content for message in said)
        if not self.lore or contents == self._called_for:
            return
        char = self.card.char if self.card else _NOBODY.char
        spoken = [one for one in said if one.role != NOTE]
        started = {
            uid: place + 1
            for place, message in enumerate(spoken[:-1])
            for uid in Fields(_extra(message), []).texts(_STARTED)
        }
        moment = Moment(
            [named(message, self.user, char).content for message in reversed(spoken)],
            sum(message.role == "assistant" for message in spoken),
            started,
            self.budget,
            Fields(spoken[0].extra_fields, []).whole("swipe_id", 0) if spoken else 0,
            self.salt,
        )
        expand = self._macros(self.card or _NOBODY, len(said)).expand
        self.called = self.lore.called(moment, expand, self.count_tokens)
        self._called_for = contents

    def greetings(self) -> list[str]:
        """What the character may say first: first_mes, then the alternatives."""
        if self.card is None:
            return []
        card = self.card
        texts = card.greetings + (card.group_greetings if self.is_group else ())
        return [self._macros(card, "greeting").expand(text).strip() for text in texts]

    def _system(self, text: str, *, has_examples: bool) -> str:
        before, after = self._steady_lore("before"), self._steady_lore("after")
        if not self.cards:
            return joined((*before, text, *after))
        # In the first card's words: they stay the same whoever speaks.
        base = self._macros(self.cards[0], "head").expand(
            text or (GROUP_BASE if self.is_group else BASE)
        )
        paragraphs = [base, *before] if self.is_group else []
        for card in self.cards:
            expand = self._macros(card, "head").expand
            original = "" if self.is_group else base
            own = self._macros(card, "head", original).expand(card.system_prompt).strip()
            paragraphs += [own or original, *(() if self.is_group else before)]
            paragraphs += description(card, expand)
        paragraphs += after
        if has_examples:
            paragraphs += [examples(card, self._macros(card, "head").expand) for card in self.cards]
        return joined(paragraphs)

    def _steady_lore(self, position: str) -> list[str]:
        expand = self._macros(self.cards[0] if self.cards else _NOBODY, "head").expand
        return [
            expand(one.entry.content)
            for one in self.called
            if one.is_active and one.entry.is_steady and one.entry.position == position
        ]

    def _inserts(self, conversation: Conversation, count: int) -> Iterator[Insert]:
        for position in ("before", "after", "depth"):
            for one in self.called:
                entry = one.entry
                if not one.is_active or entry.position != position:
                    continue
                if position == "depth":
                    yield Insert(one.text, entry.depth)
                elif not entry.is_steady:
                    yield Insert(one.text, _LORE_DEPTH)
        note = note_of(conversation)
        if note:
            expand = self._macros(self.card or _NOBODY, count).expand
            yield Insert(expand(note.text), note.depth)
        for card in self.cards:
            if card.depth_prompt:
                text = self._macros(card, count).expand(card.depth_prompt.text)
                yield Insert(text, card.depth_prompt.depth)
        if self.card:
            text = self._macros(self.card, count).expand(self.card.post_history_instructions)
            if text.strip():
                yield Insert(text, 0)
            if self.is_group:
                yield Insert(f"Write what {self.card.char} says and does next, nobody else.", 0)

    def _macros(self, card: Card, place: int | str, original: str = "") -> Macros:
        """Macros for one of the story's places: the same dice there, however often it is read."""
        words = {
            "user": self.user,
            "char": card.char,
            "original": original,
            "group": ", ".join(one.char for one in self.cards),
            "charifnotgroup": ", ".join(one.char for one in self.cards),
            "description": card.description,
            "personality": card.personality,
            "scenario": card.scenario,
            "charversion": card.version,
        }
        return Macros(words, dice=Random(f"{self.salt} {place}"), salt=self.salt)


def _extra(message: Message) -> Mapping[str, Any]:
    found = message.extra_fields.get("extra")
    return found if isinstance(found, dict) else {}
