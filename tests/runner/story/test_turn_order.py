"""Whose turn it is among several characters: whoever was named, else the next after the last."""

from __future__ import annotations

import pytest

from franken_gguf.runner.conversation.conversation import NOTE, Message
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.turn_order import next_speaker

CARDS = (
    Card("Mara Quill", "V2"),
    Card("Captain Bo", "V2", nickname="Bo"),
    Card("Captain Ahab", "V2"),
)
MARA, BO, AHAB = range(3)


def said(who: int | None, text: str) -> Message:
    if who is None:
        return Message("user", text)
    return Message("assistant", text, extra_fields={"name": CARDS[who].char})


GREETING, QUESTION = said(MARA, "Come in."), said(None, "Who is there?")


@pytest.mark.parametrize(
    ("messages", "speaker"),
    [
        ([], MARA),
        ([QUESTION], MARA),
        ([GREETING, QUESTION], MARA),
        ([said(BO, "Ahoy."), QUESTION], BO),
        ([GREETING], BO),
        ([GREETING, QUESTION, said(MARA, "We are."), QUESTION], BO),
        ([GREETING, QUESTION, said(BO, "We are."), QUESTION], AHAB),
        ([GREETING, QUESTION, said(AHAB, "We are."), QUESTION], MARA),
        ([QUESTION, said(MARA, "We are."), Message(NOTE, "Bo leaves")], BO),
        ([QUESTION, QUESTION], MARA),
    ],
)
def test_without_a_name_the_one_after_the_last_speaker_is_next(
    messages: list[Message], speaker: int
) -> None:
    assert next_speaker(CARDS, messages) == speaker


@pytest.mark.parametrize(
    ("text", "speaker"),
    [
        ("What does ahab think?", AHAB),
        ("Is that Mara's oilskin, Bo?", MARA),
        ("BO, AND MARA!", BO),
        ("Quill it is.", MARA),
        ("Aye, captain.", BO),  # two captains: nobody is named
        ("Bob boils a marabou.", BO),  # nor by a part of a word
    ],
)
def test_a_character_who_is_named_answers(text: str, speaker: int) -> None:
    assert next_speaker(CARDS, [QUESTION, said(MARA, "So?"), said(None, text)]) == speaker


def test_names_in_what_a_character_says_do_not_change_the_order() -> None:
    assert next_speaker(CARDS, [QUESTION, said(MARA, "Ask Ahab, not Mara.")]) == BO
    assert next_speaker(CARDS[:1], [QUESTION, said(MARA, "I am Mara Quill.")]) == MARA
