"""Second tries with the real model: the first is not lost, only what differs is evaluated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner import Answer, Chat, Conversation, Message
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.chat.impersonation import Draft
from franken_gguf.runner.commands.command_table import completions, respond
from franken_gguf.runner.commands.general_commands import Edit
from franken_gguf.runner.commands.history_commands import change
from franken_gguf.runner.conversation.swipes import swipes
from franken_gguf.runner.sampling.settings import Sampling
from franken_gguf.runner.story.saved_story import begin
from support.dialogues import FRANCE, ITALY, PARIS, ROME, do, new_dialogue, said, small_chat

RAIN = "Write a line about rain."
NEXT_TURN = "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with small_chat(1024) as chat:
        yield chat


@pytest.fixture
def dialogue(chat: Chat, tmp_path: Path) -> Iterator[Dialogue]:
    with new_dialogue(chat, tmp_path, system="Be brief.", max_tokens=24) as dialogue:
        yield dialogue


def asked(dialogue: Dialogue, line: str) -> Answer:
    outcome = respond(dialogue, line)
    assert isinstance(outcome, Answer)
    outcome.read()
    return outcome


def saved(dialogue: Dialogue) -> list[dict[str, object]]:
    assert dialogue.session is not None
    return [json.loads(line) for line in dialogue.session.path.read_text().splitlines()]


def wildly(dialogue: Dialogue, question: str, tries: int) -> list[str]:
    """The answers to a question asked once and then given again, at a high temperature."""
    dialogue.chat.sampling = replace(dialogue.chat.sampling, temperature=1.5)
    found = [do(dialogue, question), *(do(dialogue, "/regen") for _ in range(tries - 1))]
    dialogue.chat.sampling = replace(dialogue.chat.sampling, temperature=0)
    return found


def count(dialogue: Dialogue, text: str) -> int:
    return len(dialogue.chat.engine.vocabulary.tokenize(text))


def test_every_answer_given_again_stays_a_swipe_also_on_the_disk(dialogue: Dialogue) -> None:
    answers = wildly(dialogue, RAIN, 3)
    assert len(set(answers)) == 3
    assert said(dialogue) == [RAIN, answers[2]]
    assert do(dialogue, "/swipes").splitlines()[2].startswith("* 3  ")
    for line, place in (("/swipe 1", 0), ("/swipe", 1), ("/swipe", 2), ("/swipe 2", 1)):
        assert do(dialogue, line) == f"answer {place + 1} of 3\n{answers[place]}"
        assert said(dialogue) == [RAIN, answers[place]]
        last = saved(dialogue)[-1]
        assert (last["swipes"], last["swipe_id"], last["mes"]) == (answers, place, answers[place])
    with pytest.raises(FrankenError, match="there is no answer '4'; choose 1 to 3"):
        respond(dialogue, "/swipe 4")


def test_a_swipe_past_the_last_is_a_new_answer_as_in_sillytavern(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    with pytest.raises(FrankenError, match="at temperature 0 the answer would be the same"):
        respond(dialogue, "/swipe")
    dialogue.chat.sampling = Sampling(temperature=2, seed=3)
    new = do(dialogue, "/swipe")
    assert saved(dialogue)[-1]["swipes"] == [PARIS, new]
    assert new != PARIS


def test_a_seed_gives_no_answer_twice_also_after_the_chat_was_left(dialogue: Dialogue) -> None:
    first, second = wildly(dialogue, RAIN, 2)
    do(dialogue, "/save rain")
    do(dialogue, "/branch aside")
    do(dialogue, "/checkout rain")
    do(dialogue, "/swipe 1")
    dialogue.chat.sampling = replace(dialogue.chat.sampling, temperature=1.5)
    third = do(dialogue, "/regen")
    assert len({first, second, third}) == 3


def test_a_swipe_evaluates_only_what_differs(dialogue: Dialogue) -> None:
    for number in range(6):  # a story that is longer than the turn
        do(dialogue, f"Name number {number} of the things that sailors know.")
    again = wildly(dialogue, RAIN, 2)
    vocabulary = dialogue.chat.engine.vocabulary
    begun = dialogue.chat.context_used() - count(dialogue, again[1] + "<|im_end|>\n")
    do(dialogue, "/swipe 1")
    answer = asked(dialogue, "And then?")
    tail = vocabulary.tokenize(again[0] + NEXT_TURN.format("And then?"))
    other = vocabulary.tokenize(again[1])
    common = next(n for n, (a, b) in enumerate(zip(tail, other, strict=False)) if a != b)
    assert answer.generation.prompt_tokens == begun + len(tail)
    assert answer.generation.prompt_evaluated == len(tail) - common
    assert begun > 250


def test_an_answer_given_again_evaluates_one_token(dialogue: Dialogue) -> None:
    wildly(dialogue, RAIN, 1)
    dialogue.chat.sampling = replace(dialogue.chat.sampling, temperature=1.5)
    assert asked(dialogue, "/regen").generation.prompt_evaluated == 1


def test_a_branch_evaluates_only_what_differs(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    do(dialogue, "/save tale")
    assert do(dialogue, "/branch dark") == "now on branch 'dark' of 'tale', from message 2"
    do(dialogue, ITALY)
    assert do(dialogue, "/checkout tale").endswith(f", 2 messages\n{FRANCE}\n{PARIS}")
    answer = asked(dialogue, "And of Italy?")
    new = dialogue.chat.engine.vocabulary.tokenize(NEXT_TURN.format("And of Italy?"))
    old = dialogue.chat.engine.vocabulary.tokenize(NEXT_TURN.format(ITALY))
    common = next(n for n, (a, b) in enumerate(zip(new, old, strict=False)) if a != b)
    assert answer.generation.prompt_evaluated == len(new) - common
    dialogue.save()
    assert do(dialogue, "/checkout dark").endswith(ROME)
    assert said(dialogue) == [FRANCE, PARIS, ITALY, ROME]


def test_branches_are_a_tree_to_walk_in(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    do(dialogue, "/save tale")
    do(dialogue, "/branch dark")
    do(dialogue, "/branch darker")
    do(dialogue, "/undo")
    assert said(dialogue) == []
    do(dialogue, "/checkout tale")
    do(dialogue, "/branch bright")
    assert do(dialogue, "/branches") == "  tale\n*   bright\n    dark\n      darker"
    assert completions(dialogue, "/checkout d") == ["/checkout dark", "/checkout darker"]
    do(dialogue, "/checkout dark")
    assert said(dialogue) == [FRANCE, PARIS]
    assert do(dialogue, "/checkout dark") == "already on 'dark'"
    with pytest.raises(FrankenError, match="'other' is not a branch of this chat; /branches lists"):
        respond(dialogue, "/checkout other")
    with pytest.raises(FrankenError, match="a session 'tale' already"):
        respond(dialogue, "/branch tale")
    assert dialogue.session is not None
    assert dialogue.session.name == "dark"


def test_any_message_is_changed_where_it_stands(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    do(dialogue, ITALY)
    assert do(dialogue, "/show messages").splitlines() == [
        f"1  user       {FRANCE}",
        f"2  assistant  {PARIS}",
        f"3  user       {ITALY}",
        f"4  assistant  {ROME}",
    ]
    for line, edit, text in (
        ("/edit answer", Edit(ROME, 3), "Rome, of course."),
        ("/edit 2", Edit(PARIS, 1), "Paris, of course."),
        ("/edit 1", Edit(FRANCE, 0), "And the capital of France?"),
    ):
        assert respond(dialogue, line) == edit
        assert do(dialogue, text, edit) == f"message {edit.place + 1} changed"
    assert said(dialogue) == [
        "And the capital of France?",
        "Paris, of course.",
        ITALY,
        "Rome, of course.",
    ]
    edit = Edit(ITALY, 2)
    assert do(dialogue, ITALY, edit) == "nothing changed"
    with pytest.raises(FrankenError, match="the text is empty: nothing changed"):
        change(dialogue, edit, " \n")
    # The last question, also by its number, is asked again.
    answer = do(dialogue, FRANCE, edit)
    assert said(dialogue)[2:] == [FRANCE, answer]


def test_a_changed_answer_changes_its_swipe_and_no_other(dialogue: Dialogue) -> None:
    first, second = wildly(dialogue, RAIN, 2)
    do(dialogue, "It rained.", Edit(second, 1))
    assert saved(dialogue)[-1]["swipes"] == [first, "It rained."]
    do(dialogue, "/swipe 1")
    assert saved(dialogue)[-1]["swipes"] == [first, "It rained."]


def test_the_model_writes_the_users_next_line_and_evaluates_only_its_head(
    dialogue: Dialogue,
) -> None:
    do(dialogue, FRANCE)
    draft = respond(dialogue, "/impersonate")
    assert isinstance(draft, Draft)
    assert draft.read() == draft.text
    assert draft.text
    assert "<|" not in draft.text
    assert draft.generation.prompt_evaluated == count(dialogue, "<|im_end|>\n<|im_start|>user\n")
    assert said(dialogue) == [FRANCE, PARIS]
    assert asked(dialogue, draft.text).text
    dialogue.chat.conversation.messages.append(Message("user", "And?"))
    with pytest.raises(FrankenError, match="the last message is yours"):
        respond(dialogue, "/impersonate")


def test_a_story_can_begin_with_an_impersonated_line(dialogue: Dialogue) -> None:
    draft = respond(dialogue, "/impersonate")
    assert isinstance(draft, Draft)
    assert draft.read()
    assert said(dialogue) == []


def test_in_a_group_the_users_line_begins_with_their_name_and_ends_where_others_speak(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    for name in ("Mara", "Bo"):
        card = {"name": name, "description": "{{char}} is at sea.", "first_mes": "Ahoy, {{user}}."}
        (tmp_path / f"{name}.json").write_text(json.dumps(card))
    conversation = Conversation()
    begin(conversation, [tmp_path / "Mara.json", tmp_path / "Bo.json"], user="Ann")
    dialogue.switch_to(None, conversation)
    draft = respond(dialogue, "/impersonate")
    assert isinstance(draft, Draft)
    draft.read()
    engine = dialogue.chat.engine
    read = b"".join(map(engine.vocabulary.spelling, engine.evaluated)).decode()
    assert "<|im_start|>assistant\nMara: Ahoy, Ann.<|im_end|>\n<|im_start|>user\nAnn:" in read
    assert not any(f"\n{name}:" in draft.text for name in ("Mara", "Bo"))


def test_a_sillytavern_chat_is_imported_with_its_swipes_and_exported_again(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    theirs: list[dict[str, object]] = [
        {"user_name": "Ada", "character_name": "Guide", "chat_metadata": {"variables": {"hp": 3}}},
        {"name": "Ada", "is_user": True, "is_system": False, "send_date": "1", "mes": FRANCE},
        {
            "name": "Guide",
            "is_user": False,
            "is_system": False,
            "send_date": "2",
            "mes": PARIS,
            "extra": {"token_count": 7},
            "swipes": ["Lyon.", PARIS],
            "swipe_id": 1,
            "swipe_info": [{"extra": {"token_count": 2}}, {"extra": {"token_count": 7}}],
        },
    ]
    (tmp_path / "Guide.jsonl").write_text("\n".join(map(json.dumps, theirs)))
    notice = do(dialogue, f"/import {tmp_path}/Guide.jsonl")
    assert notice == f"resumed 'Guide', 2 messages\n{FRANCE}\n{PARIS}"
    assert swipes(dialogue.chat.conversation.messages[1]) == (["Lyon.", PARIS], 1)
    assert do(dialogue, "And of Italy?") == ROME
    do(dialogue, f"/export {tmp_path}/out.jsonl")
    ours = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for their_line, our_line in zip(theirs, ours, strict=False):
        our_line.get("chat_metadata", {}).pop("franken_gguf", None)
        assert {**our_line, **their_line} == our_line
    assert [line["name"] for line in ours[1:]] == ["Ada", "Guide", "Ada", "Guide"]
