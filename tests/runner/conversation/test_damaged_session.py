"""Sessions whose last line was not written to its end, as when the power fails."""

from __future__ import annotations

import json
from pathlib import Path

from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.conversation.session import Sessions
from franken_gguf.runner.conversation.session_format import encode

DATE = "2026-11-25T08:00:00.000Z"
TALK = Conversation(
    "Be kind.", [Message("user", "Hello", DATE), Message("assistant", "Hi!\nYou?", DATE)]
)
FIRST = json.dumps({"user_name": "User", "character_name": "Assistant", "chat_metadata": {}})


def test_a_session_cut_in_its_last_line_opens_with_the_others_and_is_kept(
    tmp_path: Path,
) -> None:
    talk = Conversation("Be kind.", [*TALK.messages, Message("user", "Früh?", DATE)], 3)
    data = encode(talk, "m").encode()
    ends = data[:-1].rindex(b"\n") + 2, data.index("ü".encode()) + 1, len(data) - 2
    for number, end in enumerate(ends):
        damaged = data[:end] + b"\0" * number
        with Sessions(tmp_path / str(number)).open("tale") as session:
            session.path.write_bytes(damaged)
            found = session.read()
            assert (found.messages, found.system, found.forgotten) == (TALK.messages, "Be kind.", 2)
            assert session.path.read_bytes() == damaged
            session.save(found)
            assert session.read().messages == TALK.messages
            backup = session.path.with_name("tale.jsonl.damaged1")
            assert backup.read_bytes() == damaged
            assert session.remark == (
                f"{session.path}: its last line is damaged and was left out; the 2 messages "
                "before it are intact; tale.jsonl.damaged1 in the same folder is a copy of the "
                "damaged file"
            )


def test_a_session_damaged_again_keeps_both_files_and_the_same_damage_once(tmp_path: Path) -> None:
    with Sessions(tmp_path).open("tale") as session:
        for text in ("{", "{", '{"mes'):
            session.path.write_text(FIRST + "\n" + text)
            session.read()
        assert [one.name for one in Sessions(tmp_path).all()] == ["tale"]
    kept = {path.name: path.read_text() for path in tmp_path.glob("*.damaged*")}
    assert kept == {
        "tale.jsonl.damaged1": FIRST + "\n{",
        "tale.jsonl.damaged2": FIRST + '\n{"mes',
    }
