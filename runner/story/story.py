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
    Paragraph,
    before_the_end,
    description,
    examples,
    joined,
    named,
    with_inserts,
)
from .turn_order import next_speaker

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
        persona: str = "",
        salt: str = "",
        remarks: Sequence[str] = (),
    ) -> None:
        self.cards = tuple(cards)
        self.user = user
        self.persona = persona
        """A description of the user, with its macros; "" is none."""
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

    def take_turn(self, messages: Sequence[Message], name: str = "") -> None:
        """Let the character called `name` speak after `messages`; by default whose turn it is."""
        if name:
            self.speaker = [card.char for card in self.cards].index(name)
        elif self.cards:
            self.speaker = next_speaker(self.cards, messages)

    def await_question(self, messages: Sequence[Message]) -> None:
        """Let the character speak next who would answer a line that names nobody."""
        self.take_turn([*messages, Message("user", "")])

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
        paragraphs = self._system(conversation.system, has_examples=not forgotten)
        system = joined(paragraph.text for paragraph in paragraphs)
        read = conversation.read_by_model(messages, forgotten, system)
        if self.card and self.is_group:
            read = [named(message, self.user, self.card.char) for message in read]
        inserts = self._inserts(conversation, len(messages))
        return with_inserts(read, (Insert(one.text, depth) for one, depth in inserts))

    def paragraphs(self, conversation: Conversation) -> list[Paragraph]:
        """What the model reads beside the messages, with what of it and why, in their order."""
        messages, memory = conversation.messages, conversation.memory
        self._match_lore(messages)
        found = self._system(conversation.system, has_examples=not conversation.forgotten)
        found.append(Paragraph("memory", "memory", memory, "at the end of the system text"))
        found += [one for one, _ in self._inserts(conversation, len(messages))]
        return [one for one in found if one.text.strip()]

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

    def _system(self, text: str, *, has_examples: bool) -> list[Paragraph]:
        """The paragraphs of the system text, the persona after all lore as in SillyTavern."""
        # With the first card's macros, so that it stays the same whoever speaks.
        expand = self._macros(self.cards[0] if self.cards else _NO_CARD, "head").expand
        before, after = self._steady_lore("before", expand), self._steady_lore("after", expand)
        after.append(Paragraph("persona", self.user, expand(self.persona), "who you are"))
        own = Paragraph("system", "system", text, "set by you")
        if not self.cards:
            return [*before, own, *after]
        default = GROUP_BASE if self.is_group else BASE
        base = own if text else Paragraph("system", "system", default, "the default of a story")
        base = replace(base, text=expand(base.text))
        paragraphs = [base, *before] if self.is_group else []
        for card in self.cards:
            paragraphs += self._described(card, base, before)
        paragraphs += after
        if has_examples:
            why = "examples, until the first turns leave the context"
            paragraphs += [
                Paragraph("card", card.char, examples(card, self._macros(card, "head").expand), why)
                for card in self.cards
            ]
        return paragraphs

    def _described(
        self, card: Card, base: Paragraph, before: Sequence[Paragraph]
    ) -> list[Paragraph]:
        """A card's system prompt and description; alone, with `base` and lore in front."""
        original = "" if self.is_group else base.text
        own = self._macros(card, "head", original).expand(card.system_prompt).strip()
        about = description(card, self._macros(card, "head").expand)
        described = Paragraph("card", card.char, about, "describes a character of the story")
        prompt = Paragraph("card", card.char, own, "the card's own system prompt")
        if self.is_group:
            return [prompt, described]
        return [prompt if own else base, *before, described]

    def _steady_lore(self, position: str, expand: Callable[[str], str]) -> list[Paragraph]:
        return [
            _lore(match, expand(match.entry.content))
            for match in self.lore_matches
            if match.is_active and match.entry.is_steady and match.entry.position == position
        ]

    def _inserts(self, conversation: Conversation, count: int) -> Iterator[tuple[Paragraph, int]]:
        """What is inserted among the messages, and at which depth."""
        for position in ("before", "after", "depth"):
            for match in self.lore_matches:
                entry = match.entry
                if not match.is_active or entry.position != position:
                    continue
                if position == "depth":
                    yield _lore(match, match.text), entry.depth
                elif not entry.is_steady:
                    yield _lore(match, match.text), _LORE_DEPTH
        note = note_of(conversation)
        if note:
            text = self._macros(self.card or _NO_CARD, count).expand(note.text)
            yield Paragraph("note", "note", text, before_the_end(note.depth)), note.depth
        for card in self.cards:
            if card.depth_prompt:
                depth = card.depth_prompt.depth
                text = self._macros(card, count).expand(card.depth_prompt.text)
                yield Paragraph("card", card.char, text, before_the_end(depth)), depth
        if self.card:
            name = self.card.char
            text = self._macros(self.card, count).expand(self.card.post_history_instructions)
            if text.strip():
                yield Paragraph("card", name, text, before_the_end(0)), 0
            if self.is_group:
                text = f"Write only what {name} says and does next."
                yield Paragraph("system", "turn", text, f"it is {name}'s turn"), 0

    def _macros(self, card: Card, place: int | str, original: str = "") -> Macros:
        """Macros for one place in the prompt; they choose the same each time it is built."""
        words = {
            "user": self.user,
            "persona": self.persona,
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


def _lore(match: LoreMatch, text: str) -> Paragraph:
    return Paragraph("lore", match.entry.label, text, match.reason)
