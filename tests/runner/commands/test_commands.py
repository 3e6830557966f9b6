"""What each command of a conversation does, with the real model and without a screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.runner import Answer, Chat, Message
from franken_gguf.runner.chat.dialogue import Dialogue
from franken_gguf.runner.commands.command_table import (
    COMMANDS,
    completions,
    help_text,
    is_whole,
    respond,
    unquoted,
)
from franken_gguf.runner.commands.general_commands import Copy, Edit, Leave
from franken_gguf.runner.sampling.settings import Sampling
from support.dialogues import FRANCE, ITALY, PARIS, ROME, do, new_dialogue, said, small_chat
from support.models import ROOT


@pytest.fixture(scope="module")
def chat() -> Iterator[Chat]:
    with small_chat(512) as chat:
        yield chat


@pytest.fixture
def dialogue(chat: Chat, tmp_path: Path) -> Iterator[Dialogue]:
    with new_dialogue(chat, tmp_path, system="Be brief.") as dialogue:
        yield dialogue


def test_a_line_is_a_question_and_an_empty_one_is_nothing(dialogue: Dialogue) -> None:
    assert respond(dialogue, "  ") is None
    assert respond(dialogue, '""" """') is None
    assert do(dialogue, FRANCE) == PARIS
    assert do(dialogue, f'"""\n{ITALY}\n"""') == ROME
    assert said(dialogue) == [FRANCE, PARIS, ITALY, ROME]


@pytest.mark.parametrize(
    ("line", "text"),
    [("//help me", "/help me"), ('"""/help me"""', "/help me"), ('say "no"', 'say "no"')],
)
def test_a_line_that_is_not_a_command_goes_to_the_model_as_it_was_meant(
    dialogue: Dialogue, line: str, text: str
) -> None:
    dialogue.chat.max_tokens = 1
    do(dialogue, line)
    assert said(dialogue)[0] == text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "/frobnicate now",
            "no command /frobnicate; /help lists them, //frobn",
        ),
        ("/exprot x", "no command /exprot; did you mean /export?"),
        ("/", "no command /; /help lists them"),
        ("/bye now", "/bye takes no argument"),
        ("/load", "/load needs NAME: resume a saved chat"),
        ("/load never", "no such chat"),
        ("/load ..", "needs a letter or a digit"),
        ("/regen", "no answer yet|temperature 0"),
        ("/continue", "there is no answer yet"),
        ("/undo", "there is no question yet"),
        ("/edit", "there is no question yet"),
        ("/edit answer", "there is no answer yet"),
        ("/edit 1", "there is no message '1'; there are none yet"),
        ("/swipe", "there is no answer yet"),
        ("/swipes", "there is no answer yet"),
        ("/branch dark", "there are no messages yet"),
        ("/branches", "this chat is not saved; give it a name first: /save NAME"),
        ("/checkout dark", "this chat is not saved"),
        ("/import /nowhere/tale.jsonl", "/nowhere/tale.jsonl: No such file"),
        ("/copy", "there is no answer yet"),
        ("/save tale", "there are no messages yet"),
        ("/set temp", "use /set NAME VALUE"),
        ("/set temp hot", "temperature must be a number, not 'hot'"),
        ("/set top_k 1.5", "top_k must be a whole number, not '1.5'"),
        ("/set top_p 2", "top_p is 2.0; it must be from 0 to 1"),
        ("/set nonsense 1", "no setting 'nonsense'; there are temperature, dynatemp_range"),
        ("/set max_tokens 0", "max_tokens must be at least 1, or -1 for no limit, not '0'"),
        ("/show nothing", "cannot show 'nothing'; choose info, system, memory"),
        ("/stats maybe", "use /stats, or /stats on"),
        ("/export tale.doc", "use a name that ends in .md, .txt, .html or .jsonl"),
        ("/export /nowhere/tale.md", "/nowhere/tale.md: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(
    dialogue: Dialogue, line: str, reason: str
) -> None:
    with pytest.raises(FrankenError, match=reason) as caught:
        respond(dialogue, line)
    assert "\n" not in str(caught.value)
    assert said(dialogue) == []
    assert dialogue.session is None


@pytest.mark.parametrize("width", [40, 60, 120])
def test_help_names_every_command_and_fits_the_terminal(width: int) -> None:
    lines = help_text(width).splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()]
    for command in COMMANDS:
        (place,) = (n for n, line in enumerate(lines) if line.split()[:1] == [command.name])
        # Beside the command or, where there is no room for that, in the lines below it.
        assert command.what in " ".join(" ".join(lines[place : place + 4]).split())


def test_the_documentation_shows_the_help_as_it_is() -> None:
    page = (ROOT / "docs" / "chat.md").read_text(encoding="utf-8")
    assert textwrap.indent(help_text(80), "    ") + "\n" in page


@pytest.mark.parametrize("line", ["/bye", "/exit", "/quit"])
def test_three_words_leave(dialogue: Dialogue, line: str) -> None:
    assert isinstance(respond(dialogue, line), Leave)


def test_regen_gives_another_answer(dialogue: Dialogue) -> None:
    dialogue.chat.max_tokens = 16
    do(dialogue, "/set temp 1.5")
    first = do(dialogue, "Write a line about rain.")
    assert do(dialogue, "/regen") != first
    assert len(said(dialogue)) == 2


def test_undo_edit_and_continue_change_the_last_turn(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    do(dialogue, "What is the capital\nof Spain?")
    assert do(dialogue, "/undo") == "removed: What is the capital\nof Spain?"
    assert said(dialogue) == [FRANCE, PARIS]
    edit = respond(dialogue, "/edit")
    assert edit == Edit(FRANCE, 0)
    assert said(dialogue) == [FRANCE, PARIS]
    edited = respond(dialogue, ITALY, edit)
    assert isinstance(edited, Answer)
    assert said(dialogue) == [FRANCE, PARIS]
    assert edited.read()
    assert said(dialogue) == [ITALY, edited.text]
    assert do(dialogue, f"/edit {FRANCE}") == PARIS
    assert said(dialogue) == [FRANCE, PARIS]
    dialogue.chat.conversation.messages[-1] = Message("assistant", "The capital of France")
    assert do(dialogue, "/continue") == " is Paris."
    assert said(dialogue) == [FRANCE, PARIS]
    assert respond(dialogue, "/copy") == Copy(PARIS)


def test_the_system_text_is_changed_shown_and_taken_away(dialogue: Dialogue) -> None:
    assert do(dialogue, "/show system") == "Be brief."
    do(dialogue, '/system """You are a pirate.\nYou say arr."""')
    assert do(dialogue, "/show system") == "You are a pirate.\nYou say arr."
    assert do(dialogue, '/system ""') == "system text removed"
    assert do(dialogue, "/show system") == "no system text"


def test_settings_are_shown_and_changed_by_llama_cpps_and_ollamas_spellings(
    dialogue: Dialogue,
) -> None:
    do(dialogue, "/set temp 0.5")
    do(dialogue, "/set parameter top-k 7")
    do(dialogue, "/set seed -1")
    do(dialogue, "/set n 5")
    assert dialogue.chat.max_tokens == 5
    do(dialogue, "/set max_tokens 9")
    assert dialogue.chat.sampling == Sampling(temperature=0.5, top_k=7)
    assert dialogue.chat.max_tokens == 9
    shown = do(dialogue, "/set").splitlines()
    table = dict(line.split(None, 1) for line in shown if len(line.split()) > 1)
    assert (table["temperature"], table["top_k"]) == ("0.5", "7")
    assert table["seed"] == "-1 (random for each answer)"
    assert table["samplers"] == "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature"
    do(dialogue, "/set samplers top-k;temp")
    assert dialogue.chat.sampling.samplers == ("top_k", "temperature")
    do(dialogue, "/set dry_sequence_breakers none")
    assert dialogue.chat.sampling.dry_sequence_breakers == ()
    do(dialogue, '/set grammar root ::= "a" "b"')
    assert dialogue.chat.sampling.grammar == 'root ::= "a" "b"'
    with pytest.raises(FrankenError, match="the grammar, line 1, column 11: "):
        respond(dialogue, "/set grammar root ::= (")
    assert dialogue.chat.sampling.grammar == 'root ::= "a" "b"'
    do(dialogue, "/set max-tokens -1")
    assert dialogue.chat.max_tokens is None


def test_show_says_where_the_chat_stands(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    shown = do(dialogue, "/show")
    assert "model     smollm2.gguf" in shown
    assert "messages  2\n" in shown
    template = do(dialogue, "/show template")
    assert template.startswith("{% for message in messages %}")
    assert do(dialogue, "/show memory") == "no memory yet"
    assert do(dialogue, "/show parameters") == do(dialogue, "/set")


def test_tokens_are_counted_of_the_conversation_and_of_a_text(dialogue: Dialogue) -> None:
    text = "<|im_start|>system\nBe brief.<|im_end|>\n"
    count = len(dialogue.chat.engine.vocabulary.tokenize(text))
    assert do(dialogue, "/tokens") == f"the conversation takes {count} of 512 tokens"
    do(dialogue, '/system ""')
    assert do(dialogue, "/tokens") == "the conversation takes 0 of 512 tokens"
    assert do(dialogue, "/tokens The lighthouse") == "2 tokens: The| lighthouse"


def test_stats_add_up(dialogue: Dialogue) -> None:
    answers = [respond(dialogue, line) for line in (FRANCE,)]
    for answer in answers:
        assert isinstance(answer, Answer)
        answer.read()
        dialogue.totals.add(answer)
    assert do(dialogue, "/stats").startswith("answers  1\ntokens   7, ")
    for figures in ("off", "full"):
        do(dialogue, f"/stats {figures}")
        assert dialogue.figures == figures


def test_every_turn_is_saved_under_a_name_of_its_own_and_listed(dialogue: Dialogue) -> None:
    assert do(dialogue, "/sessions") == "no saved chats yet"
    do(dialogue, FRANCE)
    session = dialogue.session
    assert session is not None
    assert session.name.endswith(" smollm2")
    assert [message.content for message in session.read().messages] == [FRANCE, PARIS]
    assert do(dialogue, "/sessions").startswith("* 20")
    assert do(dialogue, "/save") == f"saved as {session.name!r}: {session.path}"


def test_a_chat_continues_under_another_name_and_back(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    first = dialogue.session
    assert first is not None
    do(dialogue, "/save Italian tale")
    do(dialogue, ITALY)
    assert do(dialogue, f"/load {first.name}").endswith(f", 2 messages\n{FRANCE}\n{PARIS}")
    assert said(dialogue) == [FRANCE, PARIS]
    with pytest.raises(FrankenError, match="session 'Italian tale' already exists"):
        respond(dialogue, "/save Italian tale")
    do(dialogue, "/load Italian tale")
    assert said(dialogue) == [FRANCE, PARIS, ITALY, ROME]
    assert dialogue.chat.conversation.system == "Be brief."


def test_a_damaged_session_is_refused_and_the_chat_continues(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    (dialogue.sessions.folder / "bad.jsonl").write_text("{")
    with pytest.raises(FrankenError, match=r"bad\.jsonl: line 1 is not JSON; it is the last"):
        respond(dialogue, "/load bad")
    dialogue.sessions.open("bad").close()
    assert do(dialogue, ITALY) == ROME
    assert dialogue.session is not None
    assert len(dialogue.session.read().messages) == 4


def test_clear_keeps_the_transcript_in_the_session(dialogue: Dialogue) -> None:
    do(dialogue, FRANCE)
    do(dialogue, "/clear")
    assert do(dialogue, FRANCE) == PARIS
    assert dialogue.session is not None
    saved = dialogue.session.read()
    assert [message.content for message in saved.messages] == [FRANCE, PARIS, FRANCE, PARIS]
    assert saved.forgotten == 2


def test_a_transcript_is_written_in_readable_forms_and_never_over_a_file(
    dialogue: Dialogue, tmp_path: Path
) -> None:
    do(dialogue, FRANCE)
    dialogue.chat.conversation.messages[1] = Message("assistant", "It is \x1b[31mParis.")
    assert respond(dialogue, "/copy") == Copy("It is Paris.")
    for suffix in ("md", "txt", "jsonl"):
        do(dialogue, f"/export {tmp_path}/my tale.{suffix}")
    markdown = (tmp_path / "my tale.md").read_text()
    assert markdown == f"**User:** {FRANCE}\n\n**Assistant:** It is Paris.\n"
    assert (tmp_path / "my tale.txt").read_text() == markdown.replace("**", "")
    assert (tmp_path / "my tale.jsonl").read_text().count("\n") == 3
    with pytest.raises(FrankenError, match="already exists; choose another name"):
        respond(dialogue, f"/export {tmp_path}/my tale.md")


def test_commands_and_what_they_take_are_completed(dialogue: Dialogue) -> None:
    assert completions(dialogue, "/e") == ["/edit ", "/experts ", "/export ", "/exit"]
    assert completions(dialogue, "/show s") == ["/show system"]
    assert completions(dialogue, "/set rep") == ["/set repeat_penalty", "/set repeat_last_n"]
    assert completions(dialogue, "hello") == []
    assert completions(dialogue, "/bye ") == []
    do(dialogue, FRANCE)
    do(dialogue, "/save A tale")
    assert completions(dialogue, "/load A") == ["/load A tale"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Hello", True),
        ('"""', False),
        ('"""Hello', False),
        ('"""Hello\nthere"""', True),
        (' """Hello""" ', True),
        ('""""""', True),
        ('""""', False),
        ('say """', True),
    ],
)
def test_three_quotes_begin_a_text_that_goes_on_to_the_next_three(text: str, whole: bool) -> None:
    assert is_whole(text) is whole


def test_quotes_are_taken_off_in_pairs() -> None:
    assert unquoted('"""\nHello\n  there\n"""') == "Hello\n  there"
    assert unquoted('"""') == '"""'
    assert unquoted('say """no"""') == 'say """no"""'
