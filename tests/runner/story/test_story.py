"""A story's cards become the messages that a model reads, with every template."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.prompt.template import Template
from franken_gguf.runner.story.card import Card, card_in
from franken_gguf.runner.story.card_fields import StoryError
from franken_gguf.runner.story.message_layout import Insert, with_inserts
from franken_gguf.runner.story.saved_story import begin, opened
from franken_gguf.runner.story.story import Story
from support.cards import V2, V3, png, text_chunk

SYSTEM = Message("system", "Be kind.")
ONE, ANSWER_ONE = Message("user", "one"), Message("assistant", "1")
TWO, ANSWER_TWO = Message("user", "two"), Message("assistant", "2")
GREETING = Message("assistant", "Hi!")

MARA = card_in(json.dumps(V2).encode())
BO = Card("Bo", "V1", description="{{char}} rows the boat.", greetings=("Ahoy.",))


def read(story: Story, *messages: Message, system: str = "", forgotten: int = 0) -> list[Message]:
    conversation = Conversation(system, list(messages), forgotten)
    return story.read(conversation, conversation.messages, forgotten)


def test_a_card_is_the_system_text_and_its_instructions_stand_near_the_end() -> None:
    assert read(Story([MARA], user="Ann"), GREETING, ONE, ANSWER_ONE, TWO, system="Be kind.") == [
        Message(
            "system",
            "Be kind. You are Mara.\n\n"
            "Mara keeps the lighthouse of Skerry Rock.\n\n"
            "Mara's personality: dry, patient\n\n"
            "Scenario: A storm comes. Ann knocks at the door.\n\n"
            "Examples of how Mara talks:\n***\nAnn: Cold?\nMara: Only the tea.\n***\nMara: Listen.",
        ),
        GREETING,
        Message("user", "one\n\n[The wind howls.]"),
        ANSWER_ONE,
        Message("user", "two\n\n[Stay in the storm.]"),
    ]


def test_a_cards_system_prompt_takes_the_place_of_the_users_and_original_gives_it_back() -> None:
    plain = Card("Mara", "V2", description="Tall.")

    def system(card: Card, text: str) -> str:
        return read(Story([card]), ONE, system=text)[0].content

    own = replace(plain, system_prompt="You are {{char}}.")
    assert system(own, "Be kind.") == "You are Mara.\n\nTall."
    assert system(plain, "Be kind to {{char}}.") == "Be kind to Mara.\n\nTall."
    both = replace(plain, system_prompt="{{original}} Now.")
    assert system(both, "Be kind.") == "Be kind. Now.\n\nTall."
    assert system(plain, "") == (
        "Write Mara's next words and deeds in a story told together with User. "
        "Leave what User says and does to User.\n\nTall."
    )


def test_the_persona_follows_the_characters_and_stands_before_the_examples() -> None:
    card = Card("Mara", "V2", description="{{user}}: {{persona}}", mes_example="{{char}}: Hm.")
    story = Story([card], user="Ann", persona="{{user}} fears {{char}}.")
    assert read(story, ONE, system="Be kind.")[0].content.split("\n\n") == [
        "Be kind.",
        "Ann: {{user}} fears {{char}}.",
        "Ann fears Mara.",
        "Examples of how Mara talks:\n***\nMara: Hm.",
    ]
    plain = Story(user="Ann", persona="{{user}} is a diver.")
    assert read(plain, ONE, system="Be kind.")[0].content == "Be kind.\n\nAnn is a diver."


def test_examples_leave_with_the_first_turns() -> None:
    story = Story([MARA])
    assert "Only the tea" in read(story, ONE, ANSWER_ONE, TWO)[0].content
    assert "Only the tea" not in read(story, ONE, ANSWER_ONE, TWO, forgotten=2)[0].content


def test_the_start_stays_the_same_from_turn_to_turn() -> None:
    card = replace(MARA, description="{{random:a,b,c,d}} {{roll:d100}} {{pick:a,b,c}}")
    story = Story([card], salt="x")
    first, later = read(story, ONE), read(story, ONE, ANSWER_ONE, TWO)
    assert first[0] == later[0]
    heads = {read(Story([card], salt=str(n)), ONE)[0].content for n in range(9)}
    assert len(heads) > 3


def test_without_characters_a_conversation_is_read_unchanged() -> None:
    assert read(Story(), ONE, ANSWER_ONE, TWO, system="Be {{char}}.") == [
        Message("system", "Be {{char}}."),
        ONE,
        ANSWER_ONE,
        TWO,
    ]
    assert (Story().stops, Story().opening, Story().answer()) == ((), "", Message("assistant", ""))


@pytest.mark.parametrize(
    ("depth", "contents"),
    [
        (0, ["Be kind.", "one", "1", "two\n\n[N]"]),
        (1, ["Be kind.", "one", "1", "[N]\n\ntwo"]),
        (2, ["Be kind.", "one\n\n[N]", "1", "two"]),
        (3, ["Be kind.", "[N]\n\none", "1", "two"]),
        (9, ["Be kind.", "[N]\n\none", "1", "two"]),
    ],
)
def test_a_note_is_part_of_the_nearest_user_message(depth: int, contents: list[str]) -> None:
    found = with_inserts([SYSTEM, ONE, ANSWER_ONE, TWO], [Insert("N", depth)])
    assert [message.content for message in found] == contents


def test_a_note_with_no_user_message_beside_it_is_one_itself() -> None:
    assert with_inserts([SYSTEM, GREETING], [Insert("[N]", 0), Insert("M", 1)]) == [
        SYSTEM,
        Message("user", "[M]"),
        GREETING,
        Message("user", "[N]"),
    ]
    assert with_inserts([], [Insert("N", 3)]) == [Message("user", "[N]")]


@given(st.integers(1, 9), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12))))
def test_no_insert_is_lost_and_turns_stay_turns(count: int, given_: list[tuple[str, int]]) -> None:
    said = [SYSTEM, *(Message(("user", "assistant")[n % 2], str(n)) for n in range(count))]
    inserts = [Insert(text * 3, depth) for text, depth in given_]
    found = with_inserts(said, inserts)
    if said[-1].role == "user":
        assert [one.role for one in found] == [one.role for one in said]
    text = " ".join(one.content for one in found)
    assert all(text.count(f"[{one * 3}]") == sum(one == t for t, _ in given_) for one in "abc")
    assert with_inserts(said, []) == said


MISTRAL = (
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ message.content + '</s>' }}{% endif %}{% endfor %}"
)
# As llama-cpp-python's own for Mistral: what is no user's and no assistant's is dropped.
DROPPING = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("source", [MISTRAL, DROPPING, None])
@pytest.mark.parametrize("cards", [[MARA], [MARA, BO]])
def test_every_template_says_all_of_a_card(source: str | None, cards: list[Card]) -> None:
    with Template(source, {}) as template:
        text = template.render(read(Story(cards), GREETING, ONE, ANSWER_ONE, TWO))
    for part in ("Skerry Rock", "dry, patient", "A storm comes", "The wind howls", "one", "Hi!"):
        assert part in text
    assert text.index("two") < text.index("Stay in the storm.")


def test_several_characters_share_one_start_and_speak_by_name() -> None:
    story = Story([MARA, BO], user="Ann")
    story.speaker = 1
    bo = Message("assistant", "Row!", extra_fields={"name": "Bo"})
    found = read(story, ONE, bo, TWO)
    assert found[0].content.startswith(
        "Write a story together with Ann: the words and deeds of Mara, Bo, each when it is their "
        "turn. Leave what Ann says and does to Ann.\n\nYou are Mara.\n\nMara keeps the lighthouse"
    )
    assert "Bo rows the boat." in found[0].content
    assert [one.content for one in found[1:]] == [
        "Ann: one\n\n[The wind howls.]",
        "Bo: Row!",
        "Ann: two\n\n[Write only what Bo says and does next.]",
    ]
    assert story.opening == "Bo:"
    assert story.stops == ("\nAnn:", "\nMara:")
    assert story.answer().extra_fields == {"name": "Bo"}
    story.speaker = 0
    assert read(story, ONE, bo, TWO)[0] == found[0]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_conversation_begins_with_the_greeting_and_remembers_its_card(tmp_path: Path) -> None:
    card = write(tmp_path / "mara.png", png(text_chunk("ccv3", V3)))
    conversation = Conversation()
    begin(conversation, [card], user="Ann")
    greetings = ["Come in, Ann, before the sea does.", "The lamp is out.", "You again."]
    (first,) = conversation.messages
    assert first.content == greetings[0]
    assert first.extra_fields == {"name": "Mags", "swipes": greetings, "swipe_id": 0}
    assert conversation.extra_fields["user_name"] == "Ann"
    assert conversation.extra_fields["character_name"] == "Mags"
    story = opened(conversation)
    assert (story.cards[0].spec, story.user) == ("V3", "Ann")
    begin(conversation)
    assert opened(conversation).salt == story.salt
    assert len(conversation.messages) == 1


def test_a_missing_card_is_reported_and_nothing_of_the_session_is_lost(tmp_path: Path) -> None:
    card = write(tmp_path / "mara.json", json.dumps(V2).encode())
    conversation = Conversation()
    begin(conversation, [card])
    card.unlink()
    story = opened(conversation)
    assert story.cards == ()
    assert story.remarks == [
        f"{card}: no such file; the story continues without it, --character FILE adds it again"
    ]
    assert len(conversation.messages) == 1
    with pytest.raises(StoryError, match="no such file"):
        begin(conversation, [card])


def test_a_conversation_without_a_story_is_left_as_it_is() -> None:
    conversation = Conversation("Be kind.", [ONE], extra_fields={"a": 1})
    begin(conversation)
    assert conversation.extra_fields == {"a": 1}


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(("characters", "lorebooks", "user", "salt")), _ANYTHING),
    st.dictionaries(st.sampled_from(("note_prompt", "note_depth", "note_interval")), _ANYTHING),
    st.dictionaries(st.sampled_from(("extra", "swipe_id", "swipes")), _ANYTHING),
)
def test_whatever_a_session_says_of_its_story_it_is_opened_and_read(
    facts: dict[str, object], note: dict[str, object], kept: dict[str, object]
) -> None:
    message = Message("user", "one", extra_fields=kept)
    conversation = Conversation("", [message], extra_fields={"chat_metadata": {**note}})
    conversation.extra_fields["chat_metadata"]["franken_gguf_story"] = facts
    story = opened(conversation)
    assert story.cards == ()
    assert "one" in read_all(story, conversation)
    assert all("\n" not in remark for remark in story.remarks)


def read_all(story: Story, conversation: Conversation) -> str:
    said = story.with_lore_starts(conversation.messages)
    return " ".join(one.content for one in story.read(conversation, said, 0))
