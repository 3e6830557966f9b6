"""Commands of a story and what the model then reads, with the real model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.commands.command_table import completions, respond
from franken_gguf.runner.commands.story_commands import parsed_note
from franken_gguf.runner.conversation.conversation import Message
from franken_gguf.runner.conversation.session import data_folder
from franken_gguf.runner.story.author_note import Note
from franken_gguf.runner.story.saved_story import begin
from support.cards import V2, V3
from support.dialogues import do
from support.stories import read, tell

SHORT = {"sticky": 2, "scanDepth": 1}
LORE = {
    "entries": [
        {"keys": ["lamp"], "content": "The lamp burns {{char}}'s oil.", "comment": "Lamp"},
        {"keys": ["oil"], "content": "Oil comes from whales.", "comment": "Oil", **SHORT},
        {"keys": ["storm"], "content": "Never.", "comment": "Storm", "probability": 0},
    ]
}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/character", "no character is loaded; start with --character CARD"),
        ("/as Bo", "no character is loaded"),
        ("/next", "no character is loaded"),
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


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/character add", "add needs a FILE"),
        ("/character add {home}/none.png", "none.png: no such file"),
        ("/lorebook add {home}/bad.json", "bad.json: its JSON is damaged at line 1, column 2"),
        ("/lorebook remove Sea", "no lorebook is named 'Sea'; there are none"),
        ("/lorebook burn", "use /lorebook, /lorebook add FILE or /lorebook remove NAME"),
        ("/persona {home}/bad.json", "bad.json: its JSON is damaged at line 1, column 2"),
        ("/persona nobody", "nobody: no such file, and no persona of that name in "),
    ],
)
def test_a_change_that_cannot_be_made_is_one_line_and_changes_nothing(
    dialogue: Dialogue, tmp_path: Path, line: str, reason: str
) -> None:
    (tmp_path / "bad.json").write_text("{")
    before = dict(dialogue.chat.conversation.extra_fields)
    with pytest.raises(FrankenError, match=reason) as refused:
        respond(dialogue, line.format(home=tmp_path))
    assert "\n" not in str(refused.value)
    assert dialogue.chat.conversation.extra_fields == before


def test_a_lorebook_is_added_listed_and_removed_while_the_story_is_told(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    book = tmp_path / "skerry.json"
    book.write_text(json.dumps(LORE))
    do(dialogue, "Is the lamp lit?")
    assert do(dialogue, "/lorebook") == "no lorebooks; /lorebook add FILE adds one"
    assert do(dialogue, f"/lorebook add {book}") == "added skerry: 3 entries"
    with pytest.raises(FrankenError, match="this lorebook is in the story already"):
        respond(dialogue, f"/lorebook add {book}")
    assert "'lamp' in the last message" in do(dialogue, "/lore")
    session = dialogue.session
    assert session is not None
    dialogue.switch_to(session, session.read())
    assert do(dialogue, "/lorebook list") == "skerry"
    assert do(dialogue, "/lorebook remove skerry") == "removed skerry"
    assert not dialogue.chat.story.lore


def test_a_persona_is_chosen_by_name_kept_with_the_session_and_put_away(
    dialogue: Dialogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = data_folder() / "personas"
    folder.mkdir(parents=True)
    (folder / "knight.json").write_text('{"name": "Bors", "description": "{{user}} is old."}')
    (folder / "Ann.txt").write_text("{{user}} keeps bees.")
    do(dialogue, "Hello.")
    assert do(dialogue, "/persona").endswith("; in the library: Ann, knight")
    assert completions(dialogue, "/persona k") == ["/persona knight"]
    assert do(dialogue, "/persona knight") == "you are now Bors"
    do(dialogue, "Hello again.")
    assert read(dialogue)[0] == "Bors is old."
    assert dialogue.chat.conversation.messages[0].extra_fields["name"] == "User"
    session = dialogue.session
    assert session is not None
    dialogue.switch_to(session, session.read())
    assert do(dialogue, "/persona") == "you are Bors\n{{user}} is old."
    assert do(dialogue, "/persona ann") == "you are now Ann"
    assert read(dialogue)[0] == "Ann keeps bees."
    assert do(dialogue, "/persona off") == "no persona; you are Ann"
    assert read(dialogue)[0] == "Hello."


def test_the_prompt_is_shown_part_by_part_with_tokens_and_reasons(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    tell(dialogue, tmp_path, V2, lore=LORE)
    begin(dialogue.chat.conversation, persona=_file(tmp_path / "Ann.txt", "{{user}} is wet."))
    dialogue.reopen_story()
    do(dialogue, "/note It rains. 2")
    do(dialogue, "/memory Mara owes Ann a boat.")
    dialogue.chat.conversation.messages.append(Message("user", "Is the lamp out in this storm?"))
    head, *rows = do(dialogue, "/show prompt").splitlines()
    found = [re.split(r"\s{2,}", row.strip()) for row in rows]
    assert [row[1:] for row in found if row[1] != "message"] == [
        ["card", "Mara", "the card's own system prompt"],
        ["card", "Mara", "describes a character of the story"],
        ["persona", "Ann", "who you are"],
        ["card", "Mara", "examples, until the first turns leave the context"],
        ["memory", "memory", "at the end of the system text"],
        ["lore", "lamp", "'lamp' in the last message"],
        ["lore", "Lamp", "'lamp' in the last message"],
        ["lore", "Oil", "'oil' in 'Lamp'"],
        ["note", "note", "2 messages before the end"],
        ["card", "Mara", "2 messages before the end"],
        ["card", "Mara", "after the last message"],
        ["lore", "Storm", "'storm' in the last message: not triggered (0 % chance)"],
    ]
    vocabulary = dialogue.chat.engine.vocabulary
    assert found[2][0] == str(len(vocabulary.tokenize("Ann is wet.")))
    counted = list(map(int, re.findall(r"\d+", head)))
    assert counted[0] == sum(counted[2:])
    assert sum(int(row[0]) for row in found if row[1] == "message") == counted[3]
    do(dialogue, "/clear")
    assert do(dialogue, "/show prompt").endswith("no longer in the context")


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
