"""Second tries at a terminal, with a real editor: edits, swipes, branches, import and export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.models import smollm2
from support.terminals import CTRL_C, CTRL_D, ENTER, TAB, Terminal

FIGURES = r"\[\d+ tokens, [\d.]+ tokens/s[^\n]*\]"
FRANCE, PARIS = "What is the capital of France?", "The capital of France is Paris."


def chat(data: Path, *options: str, **variables: str) -> Terminal:
    settings = ("--temp", "0", "-t", "1", "-c", "512", "-sys", "Be brief.", "-n", "24")
    # The line is the editor unless a test names one.
    variables = {"EDITOR": "", "VISUAL": "", "XDG_DATA_HOME": str(data), **variables}
    return Terminal("chat", str(smollm2()), *settings, *options, columns=200, **variables)


def saved(data: Path, name: str) -> list[dict[str, Any]]:
    path = data / "franken-gguf" / "sessions" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def said(data: Path, name: str) -> list[str]:
    return [line["mes"] for line in saved(data, name)[1:]]


@pytest.fixture
def vim() -> str:
    path = shutil.which("vim")
    if path is None:
        pytest.skip("vim is not installed: it is the real editor of this test")
    return f"{path} -u NONE -N -n"


def test_edit_opens_the_users_editor_for_question_answer_and_any_message(
    tmp_path: Path, vim: str
) -> None:
    with chat(tmp_path, "--session", "tale", EDITOR=vim) as terminal:
        terminal.at_prompt("What is the capital of Franc?" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/edit" + ENTER)
        terminal.wait_for(r"What is the capital of Franc\?")
        terminal.type(":s/Franc/France/" + ENTER + ":wq" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/edit answer" + ENTER)
        terminal.wait_for("The capital of France is Paris")
        terminal.type("oIt is" + "\x1b" + ":wq" + ENTER)
        terminal.wait_for("message 2 changed")
        terminal.at_prompt("/edit 1" + ENTER)
        terminal.wait_for(r"What is the capital of France\?")
        terminal.type(":q!" + ENTER)
        terminal.wait_for("nothing changed")
        assert terminal.leave(CTRL_D) == 0
        assert "Traceback" not in terminal.text
    assert said(tmp_path, "tale") == [FRANCE, f"{PARIS}\nIt is"]


@pytest.mark.parametrize("editor", ["false", "/nowhere/vi"])
def test_where_the_editor_fails_the_line_is_the_editor(tmp_path: Path, editor: str) -> None:
    with chat(tmp_path, "--session", "tale", VISUAL=editor) as terminal:
        terminal.at_prompt(FRANCE + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/edit answer" + ENTER)
        terminal.wait_for(f"Error: {editor}: Editing failed[^\n]*; edit it in the input line\n")
        terminal.wait_for(r"> The capital of France is Paris\.")
        terminal.type(CTRL_C + CTRL_C)
        assert terminal.leave(CTRL_D) == 0
        assert "Traceback" not in terminal.text
    assert said(tmp_path, "tale") == [FRANCE, PARIS]


def test_without_an_editor_an_answer_is_changed_in_the_line(tmp_path: Path) -> None:
    with chat(tmp_path, "--session", "tale") as terminal:
        terminal.at_prompt(FRANCE + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/edit answer" + ENTER)
        terminal.wait_for(r"> The capital of France is Paris\.")
        terminal.type(" Of course." + ENTER)
        terminal.wait_for("message 2 changed")
        assert terminal.leave(CTRL_D) == 0
    assert said(tmp_path, "tale") == [FRANCE, f"{PARIS} Of course."]


def test_impersonate_puts_the_models_words_into_the_line(tmp_path: Path) -> None:
    with chat(tmp_path, "--session", "tale", "-n", "12") as terminal:
        terminal.at_prompt(FRANCE + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/impersonate" + ENTER)
        terminal.wait_for(r"> \w[^\n]*\Z")
        terminal.type(" And so on?" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    *_, question, _ = said(tmp_path, "tale")
    assert question.endswith(" And so on?")
    assert len(question) > len(" And so on?")


def test_a_story_is_tried_again_branched_walked_and_written(tmp_path: Path) -> None:
    with chat(tmp_path, "--session", "tale", "--seed", "1") as terminal:
        terminal.at_prompt(FRANCE + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/set temp 2" + ENTER)
        terminal.at_prompt("/stats full" + ENTER)
        terminal.at_prompt("/regen" + ENTER)
        assert "prompt: 1 evaluated" in terminal.wait_for(FIGURES)
        terminal.at_prompt("/swipe 1" + ENTER)
        terminal.wait_for(r"answer 1 of 2\nThe capital of France is Paris\.\n")
        terminal.at_prompt("/swipes" + ENTER)
        terminal.wait_for(r"\* 1  The capital of France is Paris\.\n  2  ")
        terminal.at_prompt("/branch dark" + ENTER)
        terminal.wait_for("now on branch 'dark' of 'tale', from message 2\n")
        terminal.at_prompt("/undo" + ENTER)
        terminal.at_prompt("/branches" + ENTER)
        terminal.wait_for(r"\n  tale\n\*   dark\n")
        terminal.at_prompt("/checkout t" + TAB + ENTER)
        terminal.wait_for(r"resumed 'tale', 2 messages\n")
        terminal.at_prompt(f"/export {tmp_path}/tale.html" + ENTER)
        terminal.wait_for("exported to ")
        assert terminal.leave(CTRL_D) == 0
        assert "Traceback" not in terminal.text
    assert said(tmp_path, "dark") == []
    assert said(tmp_path, "tale") == [FRANCE, PARIS]
    assert saved(tmp_path, "tale")[2]["swipes"][0] == PARIS
    assert f'<p dir="auto">{PARIS}</p>' in (tmp_path / "tale.html").read_text()


def test_a_kill_in_the_middle_of_another_answer_leaves_the_first(tmp_path: Path) -> None:
    story = "Tell me a very long story about the sea."
    with chat(tmp_path, "--session", "tale") as terminal:
        terminal.at_prompt(story + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/set max_tokens -1" + ENTER)
        terminal.wait_for("max_tokens is now -1")
        before = said(tmp_path, "tale")
        terminal.at_prompt("/set temp 1" + ENTER)
        terminal.at_prompt("/regen" + ENTER)
        terminal.wait_for(r"/regen\n\S+ \S+ ")
        terminal.kill()
    assert said(tmp_path, "tale") == before
    with chat(tmp_path, "--continue") as terminal:
        terminal.wait_for("resumed 'tale', 2 messages\n")
        assert terminal.leave(CTRL_D) == 0


def test_a_chat_of_sillytaverns_is_started_from_the_command_line(tmp_path: Path) -> None:
    theirs = tmp_path / "Seraphina.jsonl"
    head = {"user_name": "Ada", "character_name": "Seraphina"}
    greeting = {"name": "Seraphina", "is_user": False, "mes": "Welcome, traveller."}
    theirs.write_text(f"{json.dumps(head)}\n{json.dumps(greeting)}")
    with chat(tmp_path, "--import", str(theirs), "--session", "Forest") as terminal:
        terminal.wait_for(r"resumed 'Forest', 1 message\nWelcome, traveller\.\n")
        terminal.at_prompt("Who are you?" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    names = [line["name"] for line in saved(tmp_path, "Forest")[1:]]
    assert names == ["Seraphina", "Ada", "Seraphina"]
    with chat(tmp_path, "--import", str(theirs), "--session", "Forest") as terminal:
        terminal.wait_for("Error: a session 'Forest' already exists; choose another name")
