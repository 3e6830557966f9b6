"""The tree of saved chats on the disk, also where it is cut short by a kill."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest

from franken_gguf.runner.conversation.branches import fork, tree
from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.conversation.export import write_transcript
from franken_gguf.runner.conversation.session import Sessions, read_chat
from franken_gguf.runner.conversation.session_format import SessionError, encode
from franken_gguf.runner.conversation.swipes import with_swipe

TALK = Conversation(
    "Be kind.",
    [Message("user", "Hello"), with_swipe(Message("assistant", "Go."), "Stay.", "now")],
    extra_fields={"chat_metadata": {"note_prompt": "rain"}},
)


def branched(sessions: Sessions, parent: str, name: str) -> None:
    with sessions.open(parent) as session:
        conversation = session.read() if session.exists() else deepcopy(TALK)
        session.save(conversation)
        fork(sessions, session, conversation, name).close()


def test_a_branch_is_a_chat_of_its_own_that_both_sides_name_as_sillytavern_does(
    tmp_path: Path,
) -> None:
    branched(Sessions(tmp_path), "tale", "dark")
    parent, branch = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("tale", "dark")
    )
    assert branch[0]["chat_metadata"]["main_chat"] == "tale"
    assert branch[0]["chat_metadata"]["note_prompt"] == "rain"
    assert "main_chat" not in parent[0]["chat_metadata"]
    assert parent[-1]["extra"]["branches"] == ["dark"]
    assert branch[-1]["extra"] == {}
    assert branch[-1]["swipes"] == parent[-1]["swipes"] == ["Go.", "Stay."]
    assert read_chat(tmp_path / "dark.jsonl").messages == TALK.messages
    assert read_chat(tmp_path / "dark.jsonl").system == "Be kind."


def test_the_tree_is_the_same_from_every_branch(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    for parent, name in (("tale", "dark"), ("tale", "bright"), ("dark", "darker"), ("x", "y")):
        branched(sessions, parent, name)
    found = [(0, "tale"), (1, "bright"), (1, "dark"), (2, "darker")]
    for name in ("tale", "dark", "bright", "darker"):
        assert tree(sessions, name) == found
    (tmp_path / "tale.jsonl").unlink()
    assert tree(sessions, "darker") == [(0, "dark"), (1, "darker")]
    assert tree(sessions, "never saved") == [(0, "never saved")]


@pytest.mark.parametrize(
    "parents", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}]
)
def test_parents_in_a_circle_end(tmp_path: Path, parents: dict[str, str]) -> None:
    for name, parent in parents.items():
        head = {"user_name": "Ada", "chat_metadata": {"main_chat": parent}}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(head) + "\n")
    assert sorted(name for _, name in tree(Sessions(tmp_path), "a")) == sorted(parents)


@pytest.mark.parametrize(
    "head", ["", "{", "[]", '{"chat_metadata": 1}', '{"chat_metadata": {"main_chat": 1}}', "\udcff"]
)
def test_a_file_that_is_not_a_chat_has_no_parent_and_hides_no_other(
    tmp_path: Path, head: str
) -> None:
    sessions = Sessions(tmp_path)
    branched(sessions, "tale", "dark")
    (tmp_path / "bad.jsonl").write_bytes(head.encode(errors="surrogateescape"))
    assert tree(sessions, "tale") == [(0, "tale"), (1, "dark")]
    assert tree(sessions, "bad") == [(0, "bad")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tale", "session 'tale' is open in another chat"),
        ("other", "a session 'other' al"),
    ],
)
def test_a_branch_takes_no_other_chats_name(tmp_path: Path, name: str, reason: str) -> None:
    sessions = Sessions(tmp_path)
    branched(sessions, "other", "others branch")
    with sessions.open("tale") as session, pytest.raises(SessionError, match=reason):
        session.save(TALK)
        fork(sessions, session, deepcopy(TALK), name)
    assert tree(sessions, "tale") == [(0, "tale")]
    sessions.open("other").close()


def killed_at(event: int, work: Callable[[], None]) -> bool:
    """Whether `work`, in a process of its own, is killed before its `event`th touch of a file."""
    child = os.fork()
    if child == 0:
        left = event

        def kill(name: str, _: object) -> None:
            nonlocal left
            if name == "open" or (name.startswith("os.") and name != "os.kill"):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(kill)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_kill_between_any_two_steps_leaves_both_chats_whole(tmp_path: Path) -> None:
    seen = set()
    for event in range(1000):
        folder = tmp_path / str(event)
        sessions = Sessions(folder)
        with sessions.open("tale") as session:
            session.save(TALK)
        was_killed = killed_at(event, partial(branched, sessions, "tale", "dark"))
        chats = {path.stem: read_chat(path) for path in folder.glob("[!.]*.jsonl")}
        assert all(chat.messages == TALK.messages for chat in chats.values())
        noted = "branches" in chats["tale"].messages[-1].extra_fields["extra"]
        # The parent names only a branch that is there, and the next chat finds what there is.
        seen.add(("dark" in chats, noted))
        found = [(0, "tale"), (1, "dark")] if "dark" in chats else [(0, "tale")]
        assert tree(sessions, "tale") == found
        sessions.open("tale").close()
        if not was_killed:
            break
    assert event > 10
    assert seen == {(False, False), (True, False), (True, True)}


def test_a_kill_leaves_an_import_and_an_export_whole_or_not_there(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text(encode(TALK))

    def work(folder: Path) -> None:
        Sessions(folder).import_file(theirs).close()
        write_transcript(folder / "out.jsonl", TALK, "")

    seen = set()
    for event in range(1000):
        folder = tmp_path / str(event)
        folder.mkdir()
        was_killed = killed_at(event, partial(work, folder))
        written = [path.stem for path in folder.glob("[!.]*")]
        assert all(read_chat(folder / f"{n}.jsonl").messages == TALK.messages for n in written)
        seen.add(tuple(sorted(written)))
        if not was_killed:
            break
    assert seen == {(), ("theirs",), ("out", "theirs")}


def test_a_chat_of_sillytaverns_is_imported_under_its_name_and_a_free_one(tmp_path: Path) -> None:
    theirs = tmp_path / "Seraphina - 2024.jsonl"
    theirs.write_text('{"user_name":"Ada","character_name":"S"}\n{"mes":"Hello","is_user":true}')
    sessions = Sessions(tmp_path / "sessions")
    for name in ("Seraphina - 2024", "Seraphina - 2024 2"):
        with sessions.import_file(theirs) as session:
            assert session.name == name
            assert session.read().messages == [Message("user", "Hello")]
    with pytest.raises(SessionError, match="a session 'Seraphina - 2024' already"):
        sessions.import_file(theirs, "Seraphina - 2024")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"user_name":"Ada"}\n{"is_user":true}', "line 2: 'mes' is missing or not text"),
        ("once upon a time", "line 1 is not JSON"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_begins_nothing(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    theirs, sessions = tmp_path / "x.jsonl", Sessions(tmp_path / "sessions")
    if text is not None:
        theirs.write_text(text)
    with pytest.raises(SessionError, match=reason) as caught:
        sessions.import_file(theirs)
    assert str(caught.value).startswith(f"{theirs}: ")
    assert "\n" not in str(caught.value)
    assert sessions.all() == []


def test_a_pipe_is_not_a_chat_to_import(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(SessionError, match="is not a file"):
        Sessions(tmp_path).import_file(tmp_path / "pipe.jsonl")
