"""Commands of a story and what the model then reads, with the real model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner import Chat, Conversation
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.commands.command_table import completions, respond
from franken_gguf.runner.commands.story_commands import parsed_note
from franken_gguf.runner.story.author_note import Note
from franken_gguf.runner.story.card import Card
from franken_gguf.runner.story.saved_story import begin
from support.cards import V2, V3, png, text_chunk
from support.dialogues import do, new_dialogue, small_chat

BO = {"name": "Bo", "description": "{{char}} rows the boat.", "first_mes": "Ahoy, {{user}}."}
SHORT = {"sticky": 2, "scanDepth": 1}
LORE = {
    "entries": [
        {"keys": ["lamp"], "content": "The lamp burns {{char}}'s oil.", "comment": "Lamp"},
        {"keys": ["oil"], "content": "Oil comes from whales.", "comment": "Oil", **SHORT},
        {"keys": ["storm"], "content": "Never.", "comment": "Storm", "probability": 0},
    ]
}


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with small_chat(2048) as chat:
        yield chat


@pytest.fixture
def dialogue(chat: Chat, tmp_path: Path) -> Iterator[Dialogue]:
    with new_dialogue(chat, tmp_path, max_tokens=8) as dialogue:
        yield dialogue


def tell(dialogue: Dialogue, folder: Path, *cards: dict[str, Any], lore: object = None) -> None:
    """Begin a story of these cards and this lore."""
    paths = []
    for number, card in enumerate(cards):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(png(text_chunk("chara", card)))
    books = [folder / "lore.json"] if lore else []
    for path in books:
        path.write_text(json.dumps(lore))
    conversation = Conversation()
    begin(conversation, paths, books, "Ann")
    dialogue.switch_to(None, conversation)


def read(dialogue: Dialogue) -> list[str]:
    """What the model reads now."""
    conversation = dialogue.chat.conversation
    story = dialogue.chat.story
    messages = story.read(conversation, conversation.messages, conversation.forgotten)
    return [message.content for message in messages]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/character", "no character is loaded; start with --character CARD"),
        ("/as Bo", "no character is loaded"),
        ("/lore", "no lorebook is loaded; start with --lorebook FILE"),
    ],
)
def test_without_a_story_its_commands_say_how_to_begin_one(
    dialogue: Dialogue, line: str, reason: str
) -> None:
    with pytest.raises(FrankenError, match=reason):
        respond(dialogue, line)


def test_lore_is_shown_with_its_reason_and_read_near_the_end(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    tell(dialogue, tmp_path, V2, lore=LORE)
    do(dialogue, "Is the lamp out in this storm?")
    tokens = sum(
        len(dialogue.chat.engine.vocabulary.tokenize(text))
        for text in ("The lamp burns whale oil.", "The lamp burns Mara's oil.")
    ) + len(dialogue.chat.engine.vocabulary.tokenize("Oil comes from whales."))
    assert do(dialogue, "/lore").splitlines() == [
        f"active: 3 of 4 entries, {tokens} of 512 tokens",
        "  lamp  'lamp' in the last message",
        "  Lamp  'lamp' in the last message",
        "  Oil   'oil' in 'Lamp'",
        "matched but inactive: 1",
        "  Storm  'storm' in the last message: not triggered (0 % chance)",
    ]
    head, greeting, asked, _, end = read(dialogue)
    assert "lamp" not in head
    assert greeting == "Come in, Ann, before the sea does."
    assert asked.endswith(
        "Is the lamp out in this storm?\n\n"
        "[The lamp burns whale oil.]\n\n[The lamp burns Mara's oil.]\n\n[Oil comes from whales.]"
    )
    assert end == "[Stay in the storm.]"


def test_sticky_lore_stays_and_its_time_is_in_the_session(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    tell(dialogue, tmp_path, lore=LORE)
    do(dialogue, "oil?")
    kept = dialogue.chat.conversation.messages[0].extra_fields
    assert len(kept["extra"]["franken_gguf_lore"]) == 1
    do(dialogue, "Hello.")
    assert "sticky, 1 more message" in do(dialogue, "/lore")
    session = dialogue.session
    assert session is not None
    dialogue.switch_to(session, session.read())
    do(dialogue, "/undo")
    do(dialogue, "Hello.")
    assert "sticky, 1 more message" in do(dialogue, "/lore")
    do(dialogue, "Hello.")
    assert "active: 0 of 3" in do(dialogue, "/lore")


def test_constant_lore_is_in_front_and_the_start_stays_evaluated(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    lore = {"entries": [{"constant": True, "content": "It is 1850."}]}
    tell(dialogue, tmp_path, V3, lore=lore)
    do(dialogue, "Who are you?")
    before = dialogue.totals.prompt_evaluated
    do(dialogue, "The lamp is out!")
    head, *_ = read(dialogue)
    assert "It is 1850." in head
    # The lamp's lore, the card's notes and the last two turns: not the head.
    assert dialogue.totals.prompt_evaluated - before < 100
    assert len(dialogue.chat.engine.vocabulary.tokenize(head)) > 100


def test_a_note_stands_at_its_depth_and_is_sillytaverns(dialogue: Dialogue) -> None:
    do(dialogue, "One.")
    assert do(dialogue, "/note") == "no note; set one with /note TEXT"
    assert do(dialogue, "/note It rains.") == ("note set 4 messages before the end (depth 4)")
    assert do(dialogue, '/note "It rains." 0').endswith("(depth 0)")
    do(dialogue, "Two.")
    assert read(dialogue)[-1] == "[It rains.]"
    assert read(dialogue)[2] == "Two."
    metadata = dialogue.chat.conversation.extra_fields["chat_metadata"]
    assert metadata["note_prompt"] == "It rains."
    assert (metadata["note_depth"], metadata["note_position"]) == (0, 1)
    assert do(dialogue, "/note off") == "note removed"
    assert "[It rains.]" not in read(dialogue)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("It rains.", Note("It rains.", 4)),
        ("It rains. 2", Note("It rains.", 2)),
        ('"He is 42"', Note("He is 42", 4)),
        ('"He is 42" 0', Note("He is 42", 0)),
        ("42", Note("42", 4)),
    ],
)
def test_a_note_may_name_its_depth(text: str, note: Note) -> None:
    assert parsed_note(text) == note


def test_a_memory_is_written_read_and_taken_away(dialogue: Dialogue) -> None:
    assert do(dialogue, "/memory") == "no memory; set it with /memory TEXT"
    do(dialogue, "/memory Mara owes Ann a boat.")
    assert do(dialogue, "/memory") == "Mara owes Ann a boat."
    assert read(dialogue) == ["Summary of the conversation so far:\nMara owes Ann a boat."]
    do(dialogue, "/memory off")
    assert read(dialogue) == []


def test_several_characters_speak_by_name_and_in_turn(dialogue: Dialogue, tmp_path: Path) -> None:
    tell(dialogue, tmp_path, V2, BO)
    assert completions(dialogue, "/as ") == ["/as Mara", "/as Bo"]
    do(dialogue, "Who is there?")
    do(dialogue, "/as bo")
    messages = dialogue.chat.conversation.messages
    assert [one.extra_fields.get("name") for one in messages] == ["Mara", None, "Mara", "Bo"]
    assert not messages[-1].content.startswith("Bo:")
    assert read(dialogue)[-1] == "[Write only what Bo says and does next.]"
    with pytest.raises(FrankenError, match="no character is named 'Eve'; choose Mara, Bo"):
        respond(dialogue, "/as Eve")
    do(dialogue, "/as m")
    assert dialogue.chat.conversation.messages[-1].extra_fields["name"] == "Mara"
    session = dialogue.session
    assert session is not None
    dialogue.switch_to(session, session.read())
    assert dialogue.chat.story.card is not None
    assert dialogue.chat.story.card.name == "Mara"


def test_a_card_is_looked_at_by_name(dialogue: Dialogue, tmp_path: Path) -> None:
    tell(dialogue, tmp_path, V3, BO)
    for name, found in (("", "Mara"), (" mags", "Mara"), (" Bo", "Bo"), (" b", "Bo")):
        card = respond(dialogue, f"/character{name}")
        assert isinstance(card, Card)
        assert card.name == found


def test_another_greeting_is_turned_to_before_the_first_question(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    tell(dialogue, tmp_path, V2)
    assert do(dialogue, "/swipe 2") == "answer 2 of 3\nThe lamp is out."
    assert "The lamp is out." in read(dialogue)
