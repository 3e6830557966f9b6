"""`franken-gguf chat` at a terminal: turns, commands, Ctrl-C and Ctrl-D."""

from __future__ import annotations

import re
import time
from pathlib import Path

from models import patched_smollm2, smollm2
from terminals import CTRL_C, CTRL_D, ENTER, Terminal

FIGURES = r"\[\d+ tokens, [\d.]+ tokens/s; prompt (\d+) evaluated in [\d.]+ s, \d+ reused[^\n]*\]"
OPTIONS = ("--temp", "0", "-t", "1", "-c", "512", "-sys", "Be brief.")


def chat(*options: str, model: Path | None = None, **variables: str) -> Terminal:
    return Terminal("chat", str(model or smollm2()), *OPTIONS, *options, **variables)


def test_a_second_turn_knows_the_first_and_evaluates_only_what_is_new() -> None:
    with chat() as terminal:
        terminal.wait_for("context 512; /help")
        terminal.at_prompt("What is the capital of France?" + ENTER)
        first = terminal.wait_for(FIGURES)
        assert "The capital of France is Paris." in first
        assert " 0 reused" in first
        terminal.at_prompt("And of Italy?" + ENTER)
        second = terminal.wait_for(FIGURES)
        assert "The capital of Italy is Rome." in second
        assert " 0 reused" not in second
        assert terminal.leave(CTRL_D) == 0
        assert "Traceback" not in terminal.screen


def test_ctrl_c_stops_the_answer_and_the_next_question_is_answered() -> None:
    with chat() as terminal:
        terminal.wait_for("/help")
        terminal.at_prompt("Tell me a very long story about the sea." + ENTER)
        terminal.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        terminal.type(CTRL_C)
        assert "; stopped]" in terminal.wait_for(FIGURES)
        terminal.at_prompt("What is the capital of France?" + ENTER)
        assert "Paris" in terminal.wait_for(FIGURES)
        assert terminal.leave("/bye" + ENTER) == 0
        assert "Traceback" not in terminal.screen


def test_ctrl_c_at_the_prompt_stays_and_says_how_to_leave() -> None:
    with chat() as terminal:
        terminal.wait_for("/help")
        terminal.at_prompt("")
        time.sleep(0.5)  # Python's readline is deaf to signals while it draws the prompt
        terminal.type(CTRL_C)
        terminal.wait_for("Ctrl-D or /bye leaves")
        assert terminal.leave("/exit" + ENTER) == 0


def test_an_unknown_command_is_an_error_and_never_reaches_the_model() -> None:
    with chat("-n", "8") as terminal:
        terminal.wait_for("/help")
        terminal.at_prompt("/frobnicate now" + ENTER)
        terminal.wait_for("Error: no command /frobnicate; /help lists them, //frobnicate sends it")
        terminal.at_prompt("/bye now" + ENTER)
        terminal.wait_for("Error: /bye takes nothing after it")
        terminal.at_prompt("//frobnicate" + ENTER)
        assert " 0 reused" in terminal.wait_for(FIGURES)
        assert terminal.leave("/quit" + ENTER) == 0


def test_clear_forgets_the_turns_and_keeps_the_system_text() -> None:
    with chat("-n", "8") as terminal:
        terminal.wait_for("/help")
        terminal.at_prompt("Hello" + ENTER)
        first = terminal.wait_for(FIGURES)
        terminal.at_prompt("/clear" + ENTER)
        terminal.wait_for("the conversation is forgotten")
        terminal.at_prompt("Hello" + ENTER)
        again = terminal.wait_for(FIGURES)
        # All but the prompt's last token stands as it did; the answer is the first one's.
        assert "prompt 1 evaluated" in again
        assert first.split("Hello", 1)[1].split("[")[0] == again.split("Hello", 1)[1].split("[")[0]
        terminal.at_prompt("/help" + ENTER)
        terminal.wait_for("/clear +forget the conversation")
        assert terminal.leave(CTRL_D) == 0


def test_a_conversation_that_outgrows_the_context_forgets_its_oldest_turns_and_goes_on() -> None:
    with chat("-c", "256", "-n", "48") as terminal:
        terminal.wait_for("/help")
        for number in range(6):
            terminal.at_prompt(
                f"Name {number} things that people bring to the sea, in a list." + ENTER
            )
            terminal.wait_for(FIGURES)
        assert "the conversation outgrew the context: its first " in terminal.screen
        terminal.at_prompt("sea " * 400 + ENTER)
        terminal.wait_for(r"Error: the prompt is \d+ tokens, the context 256; shorten it")
        terminal.at_prompt("Hello" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
        assert "Traceback" not in terminal.screen


def test_no_color_leaves_the_figures_plain() -> None:
    with chat("-n", "4", NO_COLOR="1") as plain, chat("-n", "4") as styled:
        for terminal in (plain, styled):
            terminal.wait_for("/help")
            terminal.at_prompt("Hello" + ENTER)
            terminal.wait_for(FIGURES)
            assert terminal.leave(CTRL_D) == 0
    assert re.search(r"\x1b\[2m\[\d tokens", styled.screen)
    assert "\x1b[2m" not in plain.screen


def test_escape_sequences_that_the_model_writes_do_not_reach_the_screen(tmp_path: Path) -> None:
    # GPT-2's stand-in for the byte 27 is "ě": this model says ESC [ 3 1 m X where it meant Paris.
    paris = b"\x07\0\0\0\0\0\0\0"
    hostile = patched_smollm2(
        tmp_path / "red.gguf",
        (paris + "ĠParis".encode(), paris + "ě[31mX".encode().ljust(7, b"X")[:7]),
    )
    with chat(model=hostile) as terminal:
        terminal.wait_for("/help")
        terminal.at_prompt("What is the capital of France?" + ENTER)
        assert "The capital of France isX." in terminal.wait_for(FIGURES)
        assert "\x1b[31m" not in terminal.screen
        assert terminal.leave(CTRL_D) == 0
