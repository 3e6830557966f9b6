"""What was typed is not lost: a text that the model does not get returns to the input line."""

from __future__ import annotations

from pathlib import Path

from support.models import smollm2
from support.terminals import CTRL_D, ENTER, Terminal


def test_a_text_too_long_for_the_context_returns_to_the_line_and_can_be_shortened(
    tmp_path: Path,
) -> None:
    options = ("--temp", "0", "-n", "4", "-t", "1", "-c", "96", "--session", "tale")
    text = "Say yes. " + "sea " * 99
    with Terminal("chat", str(smollm2()), *options, XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt(text + ENTER)
        terminal.wait_for(r"Error: the prompt is \d+ tokens, the context 96; shorten it")
        terminal.wait_for(r"> Say yes\. (sea ){10}")
        terminal.type(ENTER)  # as it is, it is refused again
        terminal.wait_for(r"Error: the prompt is \d+ tokens, the context 96; shorten it")
        terminal.wait_for(r"> Say yes\. (sea ){10}")
        terminal.type("\x08" * (4 * 90) + ENTER)
        terminal.wait_for(r"\[4 tokens, ")
        terminal.at_prompt("/set temp hot" + ENTER)
        terminal.wait_for("Error: temperature must be a number")
        # A command does not return: the line is empty.
        assert terminal.leave(CTRL_D) == 0
    (session,) = (tmp_path / "franken-gguf" / "sessions").glob("*.jsonl")
    lines = session.read_text().splitlines()
    assert len(lines) == 3
    assert f'"mes": "{text[: -4 * 90].rstrip()}' in lines[1]


def test_an_edited_question_that_is_refused_is_still_being_edited(tmp_path: Path) -> None:
    options = ("--temp", "0", "-n", "4", "-t", "1", "-c", "96", "--session", "tale")
    home = str(tmp_path)
    with Terminal(
        "chat", str(smollm2()), *options, XDG_DATA_HOME=home, EDITOR="", VISUAL=""
    ) as terminal:
        terminal.at_prompt("Say yes." + ENTER)
        terminal.wait_for(r"\[\d tokens, ")
        terminal.at_prompt("/edit" + ENTER)
        terminal.wait_for(r"> Say yes\.")
        terminal.type(" sea" * 99 + ENTER)
        terminal.wait_for("Error: the prompt is ")
        terminal.wait_for(r"> Say yes\. (sea ){10}")
        terminal.type("\x08" * (4 * 95) + ENTER)
        terminal.wait_for(r"\[\d tokens, ")
        assert terminal.leave(CTRL_D) == 0
    (session,) = (tmp_path / "franken-gguf" / "sessions").glob("*.jsonl")
    question = session.read_text().splitlines()[1]
    assert '"mes": "Say yes. sea sea sea sea"' in question
