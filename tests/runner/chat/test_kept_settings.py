"""Settings kept with a chat, with the real model: what resumes, and what options override."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from franken_gguf.runner import Chat, Conversation, Message, Sessions
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.kept_settings import KeptSettings
from franken_gguf.runner.conversation.session import read_chat
from franken_gguf.runner.sampling.ban_list import Banned
from franken_gguf.runner.sampling.settings import Sampling
from support.dialogues import do, small_chat

TALK = [Message("user", "Hello"), Message("assistant", "Hi!")]


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with small_chat(256) as chat:
        yield chat


def opened(chat: Chat, folder: Path, name: str, *given: str, **start: Any) -> Dialogue:
    """The saved chat `name`, by a run that starts with these settings."""
    chat.sampling, chat.max_tokens, chat.banned = Sampling(**start), None, Banned()
    kept = KeptSettings(chat, given)
    dialogue = Dialogue(chat, "smollm2.gguf", Sessions(folder), settings=kept)
    session = dialogue.sessions.open(name)
    new = Conversation(messages=list(TALK))
    dialogue.switch_to(session, session.read() if session.exists() else new)
    return dialogue


CHANGES = (
    "/set temp 0.25",
    "/set n 200",
    "/set samplers top-k;temp",
    "/set dry_sequence_breakers !,.",
    "/set logit_bias 5-inf,7+0.00001",
    '/set grammar root ::= "a"',
    "/ban shiver",
)


def test_a_resumed_chat_has_all_the_settings_it_was_left_with(chat: Chat, tmp_path: Path) -> None:
    dialogue = opened(chat, tmp_path, "one")
    assert dialogue.remarks == ()
    for line in CHANGES:
        do(dialogue, line)
    left = chat.sampling
    dialogue.close()
    dialogue = opened(chat, tmp_path, "one")
    assert chat.sampling == left
    assert (chat.max_tokens, chat.banned.phrases) == (200, ("shiver",))
    (remark,) = dialogue.remarks
    assert remark.startswith("settings of this chat: temperature 0.25, ")
    assert "grammar, max_tokens 200, bans" in remark.replace("samplers, ", "")
    dialogue.close()


def test_options_come_before_what_was_kept_and_are_kept_themselves(
    chat: Chat, tmp_path: Path
) -> None:
    dialogue = opened(chat, tmp_path, "one")
    for line in ("/set temp 0.25", "/set top-k 7", "/set n 200"):
        do(dialogue, line)
    dialogue.close()
    dialogue = opened(chat, tmp_path, "one", "temperature", "max_tokens", temperature=1.5)
    assert chat.sampling == Sampling(temperature=1.5, top_k=7)
    assert chat.max_tokens is None
    assert dialogue.remarks == ("settings of this chat: top_k 7; change them with /set or options",)
    dialogue.save()
    dialogue.close()
    opened(chat, tmp_path, "one").close()
    assert chat.sampling == Sampling(temperature=1.5, top_k=7)


def test_only_what_differs_from_the_models_defaults_is_kept(chat: Chat, tmp_path: Path) -> None:
    dialogue = opened(chat, tmp_path, "one")
    dialogue.save()
    dialogue.close()
    path = tmp_path / "one.jsonl"
    assert "franken_gguf_settings" not in path.read_text()
    dialogue = opened(chat, tmp_path, "one")
    do(dialogue, "/preset story")
    kept = read_chat(path).extra_fields["chat_metadata"]["franken_gguf_settings"]
    assert kept and all(value != getattr(Sampling(), name) for name, value in kept.items())
    do(dialogue, "/set temp 0.8")
    dialogue.close()


def test_loading_a_chat_brings_its_settings_and_leaves_the_other_its_own(
    chat: Chat, tmp_path: Path
) -> None:
    opened(chat, tmp_path, "plain").save_as(Sessions(tmp_path).open("copy"))
    dialogue = opened(chat, tmp_path, "one")
    do(dialogue, "/set temp 0.25")
    shown = do(dialogue, "/load copy")
    assert "settings of this chat" not in shown
    assert chat.sampling == Sampling()
    shown = do(dialogue, "/load one")
    assert shown.startswith("settings of this chat: temperature 0.25; ")
    assert chat.sampling == Sampling(temperature=0.25)
    dialogue.close()


@pytest.mark.parametrize(
    "stored",
    [
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"top_k": 1 << 99},
        {"temperature": 10**400},
        {"samplers": [["top_k"]]},
        {"dry_sequence_breakers": [["a"]]},
        {"logit_bias": ["five"]},
        {"logit_bias": [[1]]},
        {"grammar": "root ::= ("},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"bans": [1]},
        {"bans": ["/(a/"]},
        {"temperature": 0.5, "mirostat": 3},
    ],
    ids=str,
)
def test_forged_settings_are_one_line_and_change_nothing(
    chat: Chat, tmp_path: Path, stored: dict[str, Any]
) -> None:
    first = {"user_name": "A", "chat_metadata": {"franken_gguf_settings": stored}}
    lines = [first, {"is_user": True, "mes": "Hello"}]
    (tmp_path / "bad.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dialogue = opened(chat, tmp_path, "bad")
    (remark,) = dialogue.remarks
    assert remark.startswith("the settings saved with this chat are not used: ")
    assert "\n" not in remark
    assert (chat.sampling, chat.max_tokens, chat.banned.phrases) == (Sampling(), None, ())
    dialogue.close()
