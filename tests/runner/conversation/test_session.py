"""Sessions on disk: what SillyTavern reads, what a crash leaves, what strangers write into them."""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.conversation.conversation import NOTE, Conversation, Message
from franken_gguf.runner.conversation.session import MAX_BYTES, Sessions, file_name
from franken_gguf.runner.conversation.session_format import SessionError, decode, encode

DATE = "2026-11-25T08:00:00.000Z"
TALK = Conversation(
    "Be kind.",
    [Message("user", "Hello", DATE), Message("assistant", "Hi!\nYou?", DATE)],
    1,
    "Greetings.",
    {"create_date": "2026-11-25@08h00m00s"},
)


def lines(conversation: Conversation) -> list[dict[str, Any]]:
    return [json.loads(line) for line in encode(conversation, "m.gguf").splitlines()]


def test_a_session_is_what_sillytavern_writes() -> None:
    first, question, answer = lines(TALK)
    assert (first["user_name"], first["character_name"]) == ("User", "Assistant")
    assert first["create_date"] == "2026-11-25@08h00m00s"
    assert first["chat_metadata"]["franken_gguf"] == {
        "version": 1,
        "model": "m.gguf",
        "system": "Be kind.",
        "memory": "Greetings.",
        "forgotten": 1,
    }
    assert question == {
        "name": "User",
        "is_user": True,
        "is_system": False,
        "send_date": DATE,
        "mes": "Hello",
        "extra": {},
    }
    assert (answer["name"], answer["is_user"]) == ("Assistant", False)


def test_a_chat_of_sillytaverns_comes_in_and_goes_out_with_all_it_holds() -> None:
    theirs: list[dict[str, Any]] = [
        {
            "user_name": "Ada",
            "character_name": "Seraphina",
            "create_date": "2024-01-02@03h04m05s",
            "chat_metadata": {"note_prompt": "rain", "variables": {"hp": 3}},
        },
        {"name": "Seraphina", "is_user": False, "mes": "Welcome.", "send_date": 1704164645000},
        {"name": "Ada", "is_user": True, "mes": "Hello", "extra": {"token_count": 3}},
        {"name": "Note", "is_user": False, "is_system": True, "mes": "unseen"},
        {
            "name": "Seraphina",
            "is_user": False,
            "mes": "Stay.",
            "swipes": ["Go.", "Stay."],
            "swipe_id": 1,
            "swipe_info": [{}, {}],
        },
    ]
    talk = decode("\n".join(map(json.dumps, theirs)))
    assert [message.role for message in talk.messages] == ["assistant", "user", NOTE, "assistant"]
    assert talk.system == ""
    ours = lines(talk)
    assert ours[0]["chat_metadata"].pop("franken_gguf")["forgotten"] == 0
    for their_line, our_line in zip(theirs, ours, strict=True):
        for key, value in their_line.items():
            assert our_line[key] == (str(value) if key == "send_date" else value)


def test_a_continued_message_keeps_its_speakers_name() -> None:
    head = {"user_name": "unused", "character_name": "unused", "chat_metadata": {}}
    theirs = [head, {"name": "Seraphina", "is_user": False, "mes": "Welcome."}]
    talk = decode("\n".join(map(json.dumps, theirs)))
    talk.messages += [Message("user", "Hello"), Message("assistant", "Stay.")]
    assert [line.get("name") for line in lines(talk)[1:]] == ["Seraphina", "User", "Seraphina"]


def test_a_changed_answer_changes_the_alternative_that_stands() -> None:
    kept = {"swipes": ["Go.", "Stay."], "swipe_id": 1}
    line = lines(Conversation(messages=[Message("assistant", "Run.", DATE, kept)]))[1]
    assert line["swipes"] == ["Go.", "Run."]
    assert kept["swipes"] == ["Go.", "Stay."]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MESSAGES = st.builds(Message, st.sampled_from(["user", "assistant", NOTE]), TEXT, st.just(DATE))


@given(TEXT, st.lists(MESSAGES), TEXT, st.data())
def test_what_is_written_is_read_again(
    system: str, messages: list[Message], memory: str, data: st.DataObject
) -> None:
    forgotten = data.draw(st.integers(0, len(messages)))
    found = decode(encode(Conversation(system, messages, forgotten, memory), "m"))
    assert (found.system, found.messages, found.forgotten, found.memory) == (
        system,
        messages,
        forgotten,
        memory,
    )


def test_a_session_cut_anywhere_is_refused_or_shorter() -> None:
    whole = encode(TALK, "m")
    lengths = []
    for cut in range(len(whole)):
        try:
            found = decode(whole[:cut])
        except SessionError:
            continue
        assert "\n" in whole[cut - 1 : cut + 1]
        assert found.messages == TALK.messages[: len(found.messages)]
        lengths.append(len(found.messages))
    assert {*lengths} == {*range(TALK.forgotten, len(TALK.messages) + 1)}


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = ATOMS | st.lists(ATOMS | st.lists(ATOMS)) | st.dictionaries(TEXT, ATOMS | st.lists(ATOMS))
KEYS = st.sampled_from(
    ["user_name", "chat_metadata", "name", "mes", "is_user", "is_system", "swipes", "swipe_id"]
)


@given(st.lists(st.dictionaries(KEYS, JSON), max_size=4))
def test_any_json_is_a_conversation_that_can_be_saved_or_one_line_of_error(
    made: list[dict[str, Any]],
) -> None:
    text = "".join(json.dumps(line) + "\n" for line in made)
    try:
        found = decode(text)
    except SessionError as error:
        assert "\n" not in str(error)
    else:
        assert decode(encode(found, "m")).messages == found.messages


FIRST = json.dumps({"user_name": "User", "character_name": "Assistant", "chat_metadata": {}})


def forged(**ours: object) -> str:
    return json.dumps({"user_name": "User", "chat_metadata": {"franken_gguf": ours}}) + "\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("{}\n", "it is not a chat: line 1 has neither"),
        ("[]\n", "line 1 is not a JSON object"),
        ("once upon a time\n", "line 1 is not JSON"),
        (FIRST[:-2], "line 1 is not JSON; it is the last line, the file may be cut"),
        (FIRST + '\n{"mes": "x\n', "line 2 is not JSON; it is the last line, the file may be cut"),
        (FIRST + "\n{}\nx\n{", "line 2: 'mes' is missing"),
        (FIRST + "\n{\n" + FIRST, "line 2 is not JSON;"),
        (FIRST + '\n{"is_user": true}\n', "line 2: 'mes' is missing or not text"),
        (FIRST + '\n{"mes": "x", "is_user": "yes"}\n', "line 2: 'is_user' is missing or not true"),
        (FIRST + '\n{"mes": "x", "a": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 2 is no"),
        (
            FIRST + '\n{"mes": "x", "a": ' + "[" * 70 + "]" * 70 + "}\n",
            "line 2 is not a JSON object",
        ),
        (FIRST + '\n{"mes": "x", "a": ' + "9" * 5000 + "}\n", "line 2 is not JSON"),
        (forged(version=2), "a newer franken-gguf wrote it .format 2, not 1.; update"),
        (forged(version="1"), "line 1: 'version' is missing or not a whole number"),
        (forged(forgotten=1), "line 1: 'forgotten' is 1; it must be 0 to 0"),
        (forged(forgotten=-1), "line 1: 'forgotten' is -1; it must be"),
        (forged(system=["x"]), "line 1: 'system' is missing or not text"),
    ],
)
def test_a_damaged_or_forged_session_is_one_line_and_stays_as_it_is(
    text: str, reason: str, tmp_path: Path
) -> None:
    with Sessions(tmp_path).open("tale") as session:
        session.path.write_text(text)
        with pytest.raises(SessionError, match=reason) as caught:
            session.read()
        assert str(caught.value).startswith(f"{session.path}: ")
        assert "\n" not in str(caught.value)
        assert session.path.read_text() == text


def test_half_a_character_is_a_mark() -> None:
    (message,) = decode(FIRST + '\n{"mes": "a\\ud83db"}\n').messages
    assert message.content == "a?b"


def test_bytes_that_are_not_text_and_a_file_too_large_are_reported_in_one_line(
    tmp_path: Path,
) -> None:
    with Sessions(tmp_path).open("tale") as session:
        session.path.write_bytes(b"\xff\xfe")
        with pytest.raises(SessionError, match="it is not UTF-8 text"):
            session.read()
        with session.path.open("wb") as file:
            file.truncate(MAX_BYTES + 1)
        with pytest.raises(SessionError, match="it is larger than 32 MiB"):
            session.read()


def test_a_session_is_for_its_owner_alone_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "sessions"
    with Sessions(folder).open("tale") as session:
        assert not session.exists()
        assert session.read().messages == []
        session.save(TALK)
        assert session.read().messages == TALK.messages
        before = session.path.stat().st_ino
        session.save(TALK)  # nothing new, nothing written
        assert session.path.stat().st_ino == before
        session.save(Conversation("Be brief.", TALK.messages))
        assert session.path.stat().st_ino != before
    assert stat.S_IMODE(session.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"tale.jsonl", ".tale.lock"}


def test_reading_a_session_and_saying_nothing_leaves_its_file_as_it_was(tmp_path: Path) -> None:
    theirs = '{"user_name":"Ada"}\n{"mes":"Hello","is_user":true,"send_date":1704164645000}\n'
    with Sessions(tmp_path).open("tale") as session:
        session.path.write_text(theirs)
        session.save(session.read(), "m.gguf")
        assert session.path.read_text() == theirs


def test_a_session_that_cannot_be_written_is_one_line_and_leaves_no_part(tmp_path: Path) -> None:
    with Sessions(tmp_path).open("tale") as session:
        session.path.mkdir()
        with pytest.raises(SessionError, match=r"tale\.jsonl: not saved: Is a directory"):
            session.save(TALK)
    assert {path.name for path in tmp_path.iterdir()} == {"tale.jsonl", ".tale.lock"}


def test_two_chats_on_one_session_the_second_is_refused(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    with sessions.open("tale"):
        with pytest.raises(SessionError, match="session 'tale' is open in another chat"):
            sessions.open("tale")
        sessions.open("other").close()
    sessions.open("tale").close()


def test_chats_started_in_the_same_second_have_different_names(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    opened = [sessions.open_new("model") for _ in range(3)]
    assert len({session.path for session in opened}) == 3
    for session in opened:
        session.close()


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match=r"tale\.jsonl: cannot be opened: Not a directory"):
        Sessions(tmp_path / "file" / "sessions").open("tale")


def test_the_last_saved_session_is_found_and_a_missing_one_is_reported(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    with pytest.raises(SessionError, match="no chat is saved yet"):
        sessions.open_saved()
    for age, name in enumerate(("new", "old", "oldest")):
        with sessions.open(name) as session:
            session.save(TALK)
        os.utime(session.path, (1e9 - age, 1e9 - age))
    assert [listed.name for listed in sessions.all()] == ["new", "old", "oldest"]
    with sessions.open_saved() as session:
        assert session.name == "new"
    with pytest.raises(SessionError, match=r"never\.jsonl: no such chat"):
        sessions.open_saved("never")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("The lighthouse, part 2", "The lighthouse_ part 2"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\Users\\x", "C_Users_x"),
        (".hidden", "hidden"),
        ("a\nb\x1b[31m\0", "a_b_31m_"),
        ("été 漢字", "été 漢字"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("x" * 500, "x" * 80),
        ("字" * 500, "字" * 60),
    ],
)
def test_a_name_is_a_file_in_the_folder(name: str, file: str) -> None:
    assert file_name(name) == file


@pytest.mark.parametrize("name", ["../x", "a, b", " x", "x.", "CON", "x" * 81])
def test_a_name_that_would_be_changed_is_refused_with_one_that_is_allowed(
    tmp_path: Path, name: str
) -> None:
    reason = (
        f"{name!r} cannot be a session's name; use at most 80 letters, digits, spaces and ()'-_. "
        f"without a space or a dot at either end, as in {file_name(name)!r}"
    )
    with pytest.raises(SessionError) as refused:
        Sessions(tmp_path).open(name)
    assert str(refused.value) == reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["_.._etc_passwd", "_CON", "it's (2) - v1.5", "été 漢字", "Mara - 2024-11-3 @10h 22m"]
)
def test_a_saved_session_opens_by_its_name_however_odd(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.jsonl").write_text(encode(TALK))
    for opened in (Sessions(tmp_path).open_saved, Sessions(tmp_path).open):
        with opened(name) as session:
            assert session.read().messages == TALK.messages


def test_a_name_in_decomposed_letters_is_the_same_name(tmp_path: Path) -> None:
    with Sessions(tmp_path).open(unicodedata.normalize("NFD", "été")) as session:
        assert session.name == "été"


@given(st.text())
def test_no_name_leaves_the_folder(name: str) -> None:
    try:
        made = file_name(name)
    except SessionError:
        return
    assert Path(f"{made}.jsonl").name == f"{made}.jsonl"
    assert not made.startswith(".")
    assert len(made.encode()) <= 180
    assert file_name(made) == made


@pytest.mark.parametrize("name", ["", "..", "/", "...", "\0"])
def test_a_name_of_which_nothing_is_left_is_refused(name: str) -> None:
    with pytest.raises(SessionError, match="needs a letter or a digit"):
        file_name(name)
