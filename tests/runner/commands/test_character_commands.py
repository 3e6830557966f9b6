"""Commands about the characters of a story, with the real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.commands.command_table import completions, respond
from franken_gguf.runner.story.card import Card
from support.cards import V2, V3
from support.dialogues import do
from support.stories import read, tell

BO = {"name": "Bo", "description": "{{char}} rows the boat.", "first_mes": "Ahoy, {{user}}."}


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
    assert dialogue.chat.story.card.name == "Bo"


def test_whoever_is_named_answers_and_the_others_go_on(dialogue: Dialogue, tmp_path: Path) -> None:
    tell(dialogue, tmp_path, V2, BO)
    speakers = []
    for line in ("Who is there?", "And what then?", "Bo, what do you say?", "/next"):
        do(dialogue, line)
        speakers.append(dialogue.chat.conversation.messages[-1].extra_fields["name"])
    assert speakers == ["Mara", "Bo", "Bo", "Mara"]
    do(dialogue, "/character remove Bo")
    with pytest.raises(FrankenError, match="Mara is the only character; /continue lengthens"):
        respond(dialogue, "/next")


def test_a_card_is_looked_at_by_name(dialogue: Dialogue, tmp_path: Path) -> None:
    tell(dialogue, tmp_path, V3, BO)
    for name, found in (("", "Mara"), (" mags", "Mara"), (" Bo", "Bo"), (" b", "Bo")):
        card = respond(dialogue, f"/character{name}")
        assert isinstance(card, Card)
        assert card.name == found


def test_a_character_joins_and_leaves_and_what_was_told_stays(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    tell(dialogue, tmp_path, V2)
    bo = tmp_path / "old bo.json"
    bo.write_text(json.dumps(BO))
    do(dialogue, "Who is there?")
    before = list(dialogue.chat.conversation.messages)
    assert do(dialogue, f'/character add "{bo}"') == (
        "Bo is now in the story; /as Bo lets them speak"
    )
    with pytest.raises(FrankenError, match=r"old bo\.json: Bo is in the story already"):
        respond(dialogue, f"/character add {bo}")
    do(dialogue, "/as Bo")
    assert "Bo rows the boat." in read(dialogue)[0]
    do(dialogue, "And now?")
    do(dialogue, "/undo")
    session = dialogue.session
    assert session is not None
    dialogue.switch_to(session, session.read())
    assert [card.char for card in dialogue.chat.story.cards] == ["Mara", "Bo"]
    assert do(dialogue, "/character remove bo") == "Bo is no longer in the story; their turns stay"
    assert dialogue.chat.conversation.messages[: len(before)] == before
    assert dialogue.chat.conversation.messages[-1].extra_fields["name"] == "Bo"
    assert "Bo rows" not in read(dialogue)[0]
    with pytest.raises(FrankenError, match="no character is named 'Bo'; choose Mara"):
        respond(dialogue, "/character remove Bo")


def test_the_first_character_greets_a_chat_without_messages(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    bo = tmp_path / "bo.json"
    bo.write_text(json.dumps(BO))
    assert do(dialogue, f"/character add {bo}").endswith("\nAhoy, User.")
    assert completions(dialogue, "/character ") == [
        "/character Bo",
        "/character add ",
        "/character remove Bo",
    ]


def test_a_character_whose_card_is_gone_can_be_removed(dialogue: Dialogue, tmp_path: Path) -> None:
    tell(dialogue, tmp_path, V2, BO)
    (tmp_path / "1.png").unlink()
    assert do(dialogue, "/character remove 1").startswith("1 is no longer")
    assert dialogue.chat.story.remarks == []


def test_another_greeting_is_turned_to_before_the_first_question(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    tell(dialogue, tmp_path, V2)
    assert do(dialogue, "/swipe 2") == "answer 2 of 3\nThe lamp is out."
    assert "The lamp is out." in read(dialogue)
