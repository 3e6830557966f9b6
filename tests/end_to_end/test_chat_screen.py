"""What the chat's screen looks like: colours, names, lines, emoji, and a terminal's width."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

from support.models import smollm2
from support.terminals import ALT_ENTER, CTRL_D, ENTER, Terminal

FIGURES = r"\[\d+ tokens, [\d.]+ tokens/s[^\n]*\]"
OPTIONS = ("--temp", "0", "-t", "1", "-c", "512", "-sys", "Be brief.")


def chat(*options: str, columns: int = 200, **variables: str) -> Terminal:
    return Terminal("chat", str(smollm2()), *OPTIONS, *options, columns=columns, **variables)


def told(folder: Path, *options: str, **variables: str) -> Terminal:
    """A chat with a character who says what a grammar makes her say."""
    card = folder / "mara.json"
    greeting = '"Ann," she says. *nods slowly* again.'
    card.write_text(json.dumps({"name": "Mara", "description": "", "first_mes": greeting}))
    wanted = ("--character", str(card), "--session", f"told{len(variables)}", "-n", "12")
    variables["XDG_DATA_HOME"] = str(folder)
    return Terminal("chat", str(smollm2()), *OPTIONS, *wanted, *options, columns=200, **variables)


def test_no_color_leaves_the_figures_plain() -> None:
    with chat("-n", "4", NO_COLOR="1") as plain, chat("-n", "4") as styled:
        for terminal in (plain, styled):
            terminal.wait_for("/help lists")
            terminal.at_prompt("Hello" + ENTER)
            terminal.wait_for(FIGURES)
            assert terminal.leave(CTRL_D) == 0
    assert re.search(r"\x1b\[2m\[\d tokens", styled.screen)
    assert "\x1b[2m" not in plain.screen


def test_answers_are_told_apart_from_your_lines_and_nothing_ends_in_a_space(
    tmp_path: Path,
) -> None:
    with (
        told(tmp_path, TERM="xterm-256color") as styled,
        told(tmp_path, TERM="xterm-256color", NO_COLOR="1") as plain,
    ):
        for terminal in (styled, plain):
            terminal.wait_for("Mara: ")
            terminal.at_prompt("Say it." + ENTER)
            terminal.wait_for(FIGURES)
            for command in ("/probs", "/help", "/set", "/lore", "/character"):
                terminal.at_prompt(command + ENTER)
            assert terminal.leave("/bye" + ENTER) == 0
            printed = terminal.text.split("/help lists the commands\n")[1]
            assert not re.search(r"[ \t]\n", printed)
            before_prompts = re.findall(r"(.*)\n>", printed)
            assert len(before_prompts) == 7 and set(before_prompts) == {""}
    speech, action = '\x1b[38;5;208m"Ann,"\x1b[0m', "\x1b[2;3m*nods slowly*\x1b[0m"
    assert f"\x1b[1;36mMara:\x1b[0m {speech} she says. {action}" in styled.screen
    assert "\x1b[0;32;1m> Say it." in styled.screen
    assert 'Mara: "Ann," she says. *nods slowly* again.\n' in plain.text
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", plain.screen)


def test_thoughts_are_one_line_at_a_terminal_and_shown_when_asked_for() -> None:
    grammar = ("--grammar", 'root ::= "<think>\\nIs it late?\\n</think>\\n\\nGood night."')
    with chat("-n", "30", *grammar) as terminal:
        terminal.wait_for("/help lists")
        terminal.at_prompt("Hello" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/thoughts" + ENTER)
        assert terminal.leave(CTRL_D) == 0
    assert "thinking  3 words (/thoughts shows them)\nGood night.\n" in terminal.text
    assert terminal.text.count("Is it late?") == 1


def test_a_name_that_the_model_writes_too_is_shown_once_and_saved_as_it_came(
    tmp_path: Path,
) -> None:
    grammar = ("--grammar", 'root ::= "Mara: Yes."')
    with told(tmp_path, *grammar, TERM="xterm-256color") as terminal:
        terminal.at_prompt("Say it." + ENTER)
        assert terminal.wait_for(FIGURES).count("Mara:") == 1
        assert terminal.leave(CTRL_D) == 0
    (path,) = tmp_path.rglob("told1.jsonl")
    assert json.loads(path.read_text().splitlines()[-1])["mes"] == "Mara: Yes."


def test_emoji_and_lines_are_shown_as_themselves() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    grammar = ("--grammar", f'root ::= "{family}" "\\n" "{family}!"')
    with chat(*grammar) as terminal:
        terminal.at_prompt(f"{family} hi{ALT_ENTER}{family}{ENTER}")
        assert f"{family}\n{family}!\n" in terminal.wait_for(FIGURES)
        terminal.at_prompt("/probs" + ENTER)
        shown = terminal.wait_for("below 10 %")
        assert shown.count(family) == 2 and f"{family}\n{family}!\n" in shown
        terminal.at_prompt("/undo" + ENTER)
        terminal.wait_for(f"removed: {family} hi\n{family}\n")
        assert terminal.leave(CTRL_D) == 0


def test_a_narrow_terminal_gets_whole_words() -> None:
    with chat("-n", "60", columns=40) as terminal:
        terminal.at_prompt("Tell me a story about the sea." + ENTER)
        terminal.wait_for(r"sea\.\n")
        answer = terminal.wait_for(r"\[60 tokens")
        assert terminal.leave(CTRL_D) == 0
    lines = answer.split("\n")[:-1]
    assert len(lines) > 4
    assert max(map(len, lines)) <= 40
    # No line could have held the next one's first word too.
    words = [line.split() for line in lines]
    pairs = [(one, after) for one, after in pairwise(words) if one and after]
    assert len(pairs) > 3
    assert min(len(" ".join([*one, after[0]])) for one, after in pairs) >= 40


def test_an_answer_follows_a_terminal_that_is_resized() -> None:
    with chat("-n", "90", columns=120) as terminal:
        terminal.at_prompt("Tell me a story about the sea." + ENTER)
        terminal.wait_for(r"sea\.\n(.*\n)*?.{30}")
        terminal.resize(50)
        answer = terminal.wait_for(r"\[90 tokens")
        assert terminal.leave(CTRL_D) == 0
    # What came before the resize reached may be longer.
    later = answer.split("\n")[2:-1]
    assert len(later) > 3
    assert max(map(len, later)) <= 49


def test_a_terminal_that_can_do_nothing_serves_too() -> None:
    with chat(TERM="dumb") as terminal:
        terminal.at_prompt("What is the capital of France?" + ENTER)
        assert "The capital of France is Paris." in terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    assert "\x1b" not in terminal.screen
