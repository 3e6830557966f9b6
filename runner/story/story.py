"""A story: its characters and lore, and the messages that the model reads of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from franken_gguf.runner.conversation.conversation import NOTE, Conversation, Message

from .active_lore import Lore, LoreMatch, Moment
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
_NO_CARD = Card("Assistant", "")
_LORE_DEPTH = 1  # directly before the user's last message, so that little is evaluated again
_STARTED = "franken_gguf_lore"  # in a message's "extra": entries whose time starts with it


class Story:
    """Characters and lorebooks for a chat with `user`; without them the chat is unchanged.

    `speaker` is the index of the card that speaks next. `salt` makes the random choices of one
    story differ from another's. `remarks` are problems with its files, one line each.
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
        self.lore_matches: list[LoreMatch] = []
        """The lore entries that matched last, active or not."""
        self._matched_contents: tuple[str, ...] | None = None
        names = self._macros(self.cards[0] if self.cards else _NO_CARD, "keys")
        self.lore = Lore([*(card.book for card in self.cards if card.book), *books], names.expand)

    @property
    def card(self) -> Card | None:
        """The card that speaks next; None without characters."""
        return self.cards[self.speaker] if self.cards else None

    @property
    def is_group(self) -> bool:
        """Whether there are several characters; then the model reads each message with its name."""
        return len(self.cards) > 1

    @property
    def opening(self) -> str:
        """The name and colon before the next answer in a group; not part of its text."""
        return f"{self.card.char}:" if self.card and self.is_group else ""

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which an answer ends, because someone else would speak."""
        if not self.cards:
            return ()
        others = [card.char for card in self.cards if self.is_group and card is not self.card]
        return tuple(f"\n{name}:" for name in (self.user, *others))

    @property
    def has_matched_lore(self) -> bool:
        """Whether lore has been matched yet."""
        return self._matched_contents is not None

    def answer(self) -> Message:
        """The empty message of the next answer, with its character's name."""
        return Message("assistant", "", extra_fields={"name": self.card.char} if self.card else {})

    def set_speaker(self, message: Message) -> None:
        """Let the character who wrote `message` speak next."""
        for number, card in enumerate(self.cards):
            if message.extra_fields.get("name") in (card.char, card.name):
                self.speaker = number

    def speaker_of(self, message: Message) -> str:
        """The character who wrote `message`; "" if none of them did."""
        name = message.extra_fields.get("name")
        return next((card.char for card in self.cards if name in (card.char, card.name)), "")

    def with_lore_starts(self, messages: list[Message]) -> list[Message]:
        """`messages`, the last with the uids of entries whose sticky or cooldown time starts."""
        self._match_lore(messages)
        uids = [match.entry.uid for match in self.lore_matches if match.starts]
        if not uids:
            return messages
        last = messages[-1]
        extra = {**_extra(last), _STARTED: uids}
        return [*messages[:-1], replace(last, extra_fields={**last.extra_fields, "extra": extra})]

    def read(
        self, conversation: Conversation, messages: Sequence[Message], forgotten: int
    ) -> list[Message]:
        """What the model reads of `messages`, without the first `forgotten`."""
        self._match_lore(messages)
        system = self._system(conversation.system, has_examples=not forgotten)
        read = conversation.read_by_model(messages, forgotten, system)
        if self.card and self.is_group:
            read = [named(message, self.user, self.card.char) for message in read]
        return with_inserts(read, self._inserts(conversation, len(messages)))

    def _match_lore(self, messages: Sequence[Message]) -> None:
        contents = tuple(message.content for message in messages)
        if not self.lore or contents == self._matched_contents:
            return
        char = self.card.char if self.card else _NO_CARD.char
        turns = [message for message in messages if message.role != NOTE]
        started = {
            uid: place + 1
            for place, message in enumerate(turns[:-1])
            for uid in Fields(_extra(message), []).texts(_STARTED)
        }
        moment = Moment(
            [named(message, self.user, char).content for message in reversed(turns)],
            sum(message.role == "assistant" for message in turns),
            started,
            self.budget,
            Fields(turns[0].extra_fields, []).whole("swipe_id", 0) if turns else 0,
            self.salt,
        )
        expand = self._macros(self.card or _NO_CARD, len(messages)).expand
        self.lore_matches = self.lore.matches(moment, expand, self.count_tokens)
        self._matched_contents = contents

    def greetings(self) -> list[str]:
        """The character's first messages: first_mes, then the alternatives."""
        if self.card is None:
            return []
        card = self.card
        texts = card.greetings + (card.group_greetings if self.is_group else ())
        return [self._macros(card, "greeting").expand(text).strip() for text in texts]

    def _system(self, text: str, *, has_examples: bool) -> str:
        before, after = self._steady_lore("before"), self._steady_lore("after")
        if not self.cards:
            return joined((*before, text, *after))
        # With the first card's macros, so that it stays the same whoever speaks.
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
        expand = self._macros(self.cards[0] if self.cards else _NO_CARD, "head").expand
        return [
            expand(match.entry.content)
            for match in self.lore_matches
            if match.is_active and match.entry.is_steady and match.entry.position == position
        ]

    def _inserts(self, conversation: Conversation, count: int) -> Iterator[Insert]:
        for position in ("before", "after", "depth"):
            for match in self.lore_matches:
                entry = match.entry
                if not match.is_active or entry.position != position:
                    continue
                if position == "depth":
                    yield Insert(match.text, entry.depth)
                elif not entry.is_steady:
                    yield Insert(match.text, _LORE_DEPTH)
        note = note_of(conversation)
        if note:
            expand = self._macros(self.card or _NO_CARD, count).expand
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
                yield Insert(f"Write only what {self.card.char} says and does next.", 0)

    def _macros(self, card: Card, place: int | str, original: str = "") -> Macros:
        """Macros for one place in the prompt; they choose the same each time it is built."""
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
