"""A story: who plays in it, and what a model reads of the conversation that tells it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from franken_gguf.runner.conversation import Conversation, Message

from .card import Card
from .layout import (
    BASE,
    GROUP_BASE,
    Insert,
    description,
    examples,
    joined,
    named,
    with_inserts,
)
from .macros import Macros

USER = "User"


class Story:
    """Characters, played for `user`; without any it is a conversation as it was said.

    `speaker` is the index of the card that speaks next. `salt` makes one story's {{pick}}s differ
    from another's. `remarks` are what could not be read or is not done, a line each.
    """

    def __init__(
        self,
        cards: Sequence[Card] = (),
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

    def answer(self) -> Message:
        """The message that the next answer fills."""
        return Message("assistant", "", kept={"name": self.card.name} if self.card else {})

    def read(
        self, conversation: Conversation, said: Sequence[Message], forgotten: int
    ) -> list[Message]:
        """What the model reads of `said`, without the first `forgotten` messages of it."""
        system = conversation.system
        if self.cards:
            system = self._system(system, has_examples=not forgotten)
        messages = conversation.read_by_model(said, forgotten, system)
        if self.card and self.is_group:
            messages = [named(one, self.user, self.card.char) for one in messages]
        return with_inserts(messages, self._inserts(len(said)))

    def greetings(self) -> list[str]:
        """What the character may say first: first_mes, then the alternatives."""
        if self.card is None:
            return []
        card = self.card
        texts = card.greetings + (card.group_greetings if self.is_group else ())
        return [self._macros(card, "greeting").expand(text).strip() for text in texts]

    def _system(self, text: str, *, has_examples: bool) -> str:
        # The first card's words in all that is said of no one: it changes with no speaker.
        base = self._macros(self.cards[0], "head").expand(
            text or (GROUP_BASE if self.is_group else BASE)
        )
        paragraphs = [base] if self.is_group else []
        for card in self.cards:
            expand = self._macros(card, "head").expand
            prompt = self._macros(card, "head", "" if self.is_group else base)
            own = prompt.expand(card.system_prompt).strip()
            paragraphs.append(own or ("" if self.is_group else base))
            paragraphs += description(card, expand)
        if has_examples:
            paragraphs += [examples(card, self._macros(card, "head").expand) for card in self.cards]
        return joined(paragraphs)

    def _inserts(self, count: int) -> Iterator[Insert]:
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
