"""Who speaks next in a story with several characters: whoever was named, else the next in turn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from franken_gguf.runner.conversation.conversation import NOTE, Message

from .card import Card


def next_speaker(cards: Sequence[Card], messages: Sequence[Message]) -> int:
    """The index of the card that speaks after `messages`; there is at least one card.

    If the last message is the user's and names characters, the first of them speaks. Otherwise it
    is the turn of the card after the one that spoke last. A greeting is not a turn: whoever greeted
    answers the first question.
    """
    turns = [message for message in messages if message.role != NOTE]
    questions = [place for place, message in enumerate(turns) if message.role == "user"]
    is_asked = bool(turns) and turns[-1].role == "user"
    named = _named(cards, turns[-1].content) if is_asked else None
    if named is not None:
        return named
    spoken = [n for n in (_author(cards, message) for message in turns) if n is not None]
    if not spoken:
        return 0
    is_first_question = is_asked and len(questions) == 1
    return spoken[-1] if is_first_question else (spoken[-1] + 1) % len(cards)


def _author(cards: Sequence[Card], message: Message) -> int | None:
    name = message.extra_fields.get("name")
    found = (n for n, card in enumerate(cards) if name in (card.char, card.name))
    return next(found, None) if message.role == "assistant" else None


def _named(cards: Sequence[Card], text: str) -> int | None:
    """The first card in `text` of which a word of the name occurs that no other card has."""
    owner = {n: _words(f"{card.char} {card.name}") for n, card in enumerate(cards)}
    shared = Counter(word for words in owner.values() for word in set(words))
    by_word = {w: n for n, words in owner.items() for w in words if shared[w] == 1}
    mentioned = (by_word.get(word) for word in _words(text))
    return next((n for n in mentioned if n is not None), None)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
