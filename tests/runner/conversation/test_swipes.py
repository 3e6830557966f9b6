"""An answer's alternatives, as SillyTavern keeps them; nothing of a message is lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.conversation.conversation import Conversation, Message
from franken_gguf.runner.conversation.session_format import decode, encode
from franken_gguf.runner.conversation.swipes import swipes, with_shown, with_swipe

HEAD = json.dumps({"user_name": "Ada", "character_name": "Seraphina", "chat_metadata": {}})
# What SillyTavern writes of an answer that was given twice.
THEIRS: dict[str, Any] = {
    "name": "Seraphina",
    "is_user": False,
    "is_system": False,
    "send_date": "2026-11-25T08:00:02.000Z",
    "mes": "Stay.",
    "extra": {"token_count": 2, "model": "Lumi"},
    "gen_started": "2026-11-25T08:00:01.000Z",
    "gen_finished": "2026-11-25T08:00:02.000Z",
    "force_avatar": "seraphina.png",
    "swipes": ["Go.", "Stay."],
    "swipe_id": 1,
    "swipe_info": [
        {
            "send_date": "2026-11-25T07:59:00.000Z",
            "gen_started": "2026-11-25T07:58:00.000Z",
            "gen_finished": "2026-11-25T07:59:00.000Z",
            "extra": {"token_count": 9},
        },
        {
            "send_date": "2026-11-25T08:00:02.000Z",
            "gen_started": "2026-11-25T08:00:01.000Z",
            "gen_finished": "2026-11-25T08:00:02.000Z",
            "extra": {"token_count": 2, "model": "Lumi"},
        },
    ],
}


def read(line: dict[str, Any]) -> Message:
    (message,) = decode(f"{HEAD}\n{json.dumps(line)}").messages
    return message


def written(message: Message) -> dict[str, Any]:
    _, line = encode(Conversation(messages=[message])).rstrip("\n").split("\n")
    found: dict[str, Any] = json.loads(line)
    return found


def test_sillytaverns_swipes_come_in_and_go_out_as_they_were() -> None:
    assert written(read(THEIRS)) == THEIRS


def test_turning_to_another_and_back_is_what_sillytavern_does_and_loses_nothing() -> None:
    turned = written(with_shown(read(THEIRS), 0))
    first = THEIRS["swipe_info"][0]
    assert turned == {**THEIRS, **first, "mes": "Go.", "swipe_id": 0}
    assert written(with_shown(read(turned), 1)) == THEIRS


def test_a_new_answer_stands_beside_all_before_it() -> None:
    message = with_swipe(read(THEIRS), "Run.", "2026-11-25T08:00:03.000Z")
    assert swipes(message) == (["Go.", "Stay.", "Run."], 2)
    line = written(message)
    assert (line["mes"], line["swipe_id"], line["extra"]) == ("Run.", 2, {})
    assert line["force_avatar"] == "seraphina.png"
    assert line["swipe_info"][:2] == THEIRS["swipe_info"]
    assert line["swipe_info"][2] == {"send_date": "2026-11-25T08:00:03.000Z", "extra": {}}
    assert written(with_shown(message, 1)) == {
        **THEIRS,
        "swipes": ["Go.", "Stay.", "Run."],
        "swipe_info": line["swipe_info"],
    }


def test_the_first_swipe_keeps_the_extra_fields_of_the_answer_before() -> None:
    first = Message("assistant", "Go.", "then", {"name": "Seraphina", "extra": {"token_count": 1}})
    second = with_swipe(first, "Stay.", "now")
    assert second == Message("assistant", "Stay.")
    assert second.extra_fields == {
        "name": "Seraphina",
        "extra": {},
        "swipes": ["Go.", "Stay."],
        "swipe_id": 1,
        "swipe_info": [
            {"send_date": "then", "extra": {"token_count": 1}},
            {"send_date": "now", "extra": {}},
        ],
    }
    again = with_shown(second, 0)
    assert (again.content, again.date, again.extra_fields["extra"]) == (
        "Go.",
        "then",
        {"token_count": 1},
    )


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ({}, (["Stay."], 0)),
        ({"swipes": "no list", "swipe_id": 0}, (["Stay."], 0)),
        ({"swipes": ["Go.", None], "swipe_id": 0}, (["Stay."], 0)),
        ({"swipes": []}, (["Stay."], 0)),
        ({"swipes": ["Go.", "Stay."]}, (["Go.", "Stay."], 1)),
        ({"swipes": ["Go."], "swipe_id": 7}, (["Go.", "Stay."], 1)),
        ({"swipes": ["Go.", "Run."], "swipe_id": True}, (["Go.", "Run.", "Stay."], 2)),
        ({"swipes": ["Go.", "Sta"], "swipe_id": 1}, (["Go.", "Stay."], 1)),
    ],
)
def test_untrusted_swipe_fields_hide_no_answer(
    kept: dict[str, Any], found: tuple[list[str], int]
) -> None:
    assert swipes(Message("assistant", "Stay.", extra_fields=kept)) == found


ATOMS = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(ATOMS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(JSON | st.lists(st.text()), JSON, JSON | st.lists(st.dictionaries(st.text(), ATOMS)), JSON)
def test_any_json_in_their_place_can_be_turned_added_to_and_saved(
    texts: object, place: object, infos: object, extra: object
) -> None:
    kept = {"swipes": texts, "swipe_id": place, "swipe_info": infos, "extra": extra}
    message = Message("assistant", "Stay.", "then", kept)
    before = swipes(message)[0]
    added = with_swipe(message, "Run.", "now")
    assert swipes(added) == ([*before, "Run."], len(before))
    for n, text in enumerate(before):
        turned = with_shown(added, n)
        assert turned.content == text.encode(errors="replace").decode()
        again = read(written(turned))
        assert swipes(again) == swipes(turned)
