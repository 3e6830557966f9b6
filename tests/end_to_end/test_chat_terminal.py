"""`franken-gguf chat` at a terminal: turns, commands, Ctrl-C and Ctrl-D."""

from __future__ import annotations

import base64
import json
import resource
from pathlib import Path

import pytest

from support.models import patched_smollm2, smollm2
from support.terminals import ALT_ENTER, CTRL_C, CTRL_D, CTRL_U, ENTER, TAB, UP, Terminal

FIGURES = r"\[\d+ tokens, [\d.]+ tokens/s[^\n]*\]"
OPTIONS = ("--temp", "0", "-t", "1", "-c", "512", "-sys", "Be brief.")


def chat(
    *options: str, model: Path | None = None, columns: int = 200, **variables: str
) -> Terminal:
    path = str(model or smollm2())
    return Terminal("chat", path, *OPTIONS, *options, columns=columns, **variables)


def test_a_second_turn_knows_the_first_and_evaluates_only_what_is_new() -> None:
    with chat() as terminal:
        terminal.wait_for("context 512; /help")
        terminal.at_prompt("/stats full" + ENTER)
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
        terminal.wait_for("/help lists")
        terminal.at_prompt("Tell me a very long story about the sea." + ENTER)
        terminal.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        terminal.type(CTRL_C)
        assert "; stopped]" in terminal.wait_for(FIGURES)
        terminal.at_prompt("What is the capital of France?" + ENTER)
        assert "Paris" in terminal.wait_for(FIGURES)
        assert terminal.leave("/bye" + ENTER) == 0
        assert "Traceback" not in terminal.screen


def test_ctrl_c_at_the_prompt_clears_the_line_then_says_how_to_leave() -> None:
    with chat() as terminal:
        terminal.wait_for("/help lists")
        terminal.at_prompt("half a thou" + CTRL_C + CTRL_C)
        terminal.wait_for("press Ctrl-D or type /bye to leave")
        assert terminal.leave("/exit" + ENTER) == 0


def test_an_unknown_command_is_an_error_and_never_reaches_the_model() -> None:
    with chat("-n", "8") as terminal:
        terminal.wait_for("/help lists")
        terminal.at_prompt("/stats full" + ENTER)
        terminal.at_prompt("/frobnicate now" + ENTER)
        terminal.wait_for("Error: there is no command /frobnicate; /help lists them, //frobn")
        terminal.at_prompt("/reegn" + ENTER)
        terminal.wait_for("Error: there is no command /reegn; did you mean /regen")
        terminal.at_prompt("/load" + ENTER)
        terminal.wait_for("Error: /load needs NAME: resume a saved chat")
        terminal.at_prompt("/bye now" + ENTER)
        terminal.wait_for("Error: /bye takes no argument")
        terminal.at_prompt("//frobnicate" + ENTER)
        assert " 0 reused" in terminal.wait_for(FIGURES)
        assert terminal.leave("/quit" + ENTER) == 0


def test_clear_forgets_the_turns_and_keeps_the_system_text() -> None:
    with chat("-n", "8") as terminal:
        terminal.wait_for("/help lists")
        terminal.at_prompt("/stats full" + ENTER)
        terminal.at_prompt("Hello" + ENTER)
        first = terminal.wait_for(FIGURES)
        terminal.at_prompt("/clear" + ENTER)
        terminal.wait_for("context cleared")
        terminal.at_prompt("Hello" + ENTER)
        again = terminal.wait_for(FIGURES)
        # All but the prompt's last token stands as it did; the answer is the first one's.
        assert "prompt: 1 evaluated" in again
        # What was typed may be drawn twice, so only the line before the figures is compared.
        answers = [shown.split("[")[0].splitlines()[-1] for shown in (first, again)]
        assert answers[0] == answers[1] != ""
        assert terminal.leave(CTRL_D) == 0


def test_a_conversation_that_outgrows_the_context_drops_its_oldest_turns_and_continues() -> None:
    with chat("-c", "256", "-n", "48") as terminal:
        terminal.wait_for("/help lists")
        for number in range(6):
            terminal.at_prompt(
                f"Name {number} things that people bring to the sea, in a list." + ENTER
            )
            terminal.wait_for(FIGURES)
        assert "the context is full: the oldest " in terminal.screen
        terminal.at_prompt("sea " * 400 + ENTER)
        terminal.wait_for(r"Error: the prompt is \d+ tokens, the context 256; shorten it")
        terminal.wait_for("> sea sea ")  # the text is back in the line, to be shortened
        terminal.type(CTRL_U + "Hello" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
        assert "Traceback" not in terminal.screen


def test_escape_sequences_that_the_model_writes_do_not_reach_the_screen(tmp_path: Path) -> None:
    # GPT-2's stand-in for the byte 27 is "ě": this model says ESC [ 3 1 m X where it meant Paris.
    paris = b"\x07\0\0\0\0\0\0\0"
    hostile = patched_smollm2(
        tmp_path / "red.gguf",
        (paris + "ĠParis".encode(), paris + "ě[31mX".encode().ljust(7, b"X")[:7]),
    )
    with chat(model=hostile) as terminal:
        terminal.wait_for("/help lists")
        terminal.at_prompt("What is the capital of France?" + ENTER)
        assert "The capital of France isX." in terminal.wait_for(FIGURES)
        assert "\x1b[31m" not in terminal.screen
        assert terminal.leave(CTRL_D) == 0


def test_lines_of_earlier_chats_come_back_and_are_for_their_owner_alone(tmp_path: Path) -> None:
    home = str(tmp_path)
    with chat("-n", "4", XDG_DATA_HOME=home) as terminal:
        terminal.at_prompt("Good morning" + ENTER)
        assert terminal.leave(CTRL_D) == 0
    with chat("-n", "4", XDG_DATA_HOME=home) as terminal:
        terminal.at_prompt(UP + "!" + ENTER)
        terminal.wait_for("> Good morning!")
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    history = tmp_path / "franken-gguf" / "history"
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+Good morning!" in history.read_text()


def test_a_text_of_several_lines_is_one_question(tmp_path: Path) -> None:
    with chat("-n", "4", "--session", "lines", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt('"""one' + ENTER + "two" + ENTER + '"""' + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("three" + ALT_ENTER + "four" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    assert questions(tmp_path, "lines") == ["one\ntwo", "three\nfour"]


def test_tab_completes_commands() -> None:
    with chat() as terminal:
        terminal.at_prompt("/sho" + TAB + "sys" + TAB + ENTER)
        terminal.wait_for(r"\nBe brief\.\n")
        assert terminal.leave(CTRL_D) == 0


def test_edit_puts_the_last_question_into_the_line(tmp_path: Path) -> None:
    with chat("--session", "tale", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt("What is the capital of Franc?" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/edit" + ENTER)
        terminal.wait_for("> What is the capital of Franc[?]")
        terminal.type("\x08e?" + ENTER)
        assert "The capital of France is Paris." in terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    assert questions(tmp_path, "tale") == ["What is the capital of France?"]


def test_copy_hands_the_answer_to_the_terminal() -> None:
    with chat(SSH_CONNECTION="somewhere") as terminal:
        terminal.at_prompt("What is the capital of France?" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.at_prompt("/copy" + ENTER)
        terminal.wait_for("copied 31 characters")
        assert terminal.leave(CTRL_D) == 0
    text = base64.b64encode(b"The capital of France is Paris.").decode()
    assert f"\x1b]52;c;{text}\x07" in terminal.screen


def test_a_chat_resumes_where_it_was_left(tmp_path: Path) -> None:
    home = str(tmp_path)
    with chat("--keep-context", XDG_DATA_HOME=home) as terminal:
        terminal.at_prompt("What is the capital of France?" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
        assert "; --continue resumes it" in terminal.text
        assert "saved the evaluated context: " in terminal.text
    with chat("--continue", XDG_DATA_HOME=home) as terminal:
        terminal.wait_for(
            "2 messages\n\n> What is the capital of France[?]\nThe capital of France is"
        )
        terminal.at_prompt("/stats full" + ENTER)
        terminal.at_prompt("And of Italy?" + ENTER)
        figures = terminal.wait_for(FIGURES)
        assert "The capital of Italy is Rome." in figures
        assert " 0 reused" not in figures
        with chat("--continue", XDG_DATA_HOME=home) as second:
            second.wait_for("Error: session '[^']+' is open in another chat")
        assert terminal.leave(CTRL_D) == 0
    (session,) = (tmp_path / "franken-gguf" / "sessions").glob("*.jsonl")
    assert len(session.read_text().splitlines()) == 5


def test_no_save_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    with chat("-n", "4", "--no-save", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt("A secret" + ENTER)
        terminal.wait_for(FIGURES)
        assert terminal.leave(CTRL_D) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def questions(data: Path, session: str) -> list[str]:
    text = (data / "franken-gguf" / "sessions" / f"{session}.jsonl").read_text()
    found = map(json.loads, text.splitlines()[1:])
    return [line["mes"] for line in found if line["is_user"]]


def test_if_nothing_can_be_saved_the_chat_continues_and_warns() -> None:
    with chat("-n", "4", XDG_DATA_HOME="/dev/null") as terminal:
        for _ in range(2):
            terminal.at_prompt("Hello" + ENTER)
            terminal.wait_for(FIGURES)
            terminal.wait_for(r"Error: /dev/null/.*\.jsonl: cannot be opened: Not a directory\n")
        assert terminal.leave(CTRL_D) == 1
        terminal.wait_for(r"Error: /dev/null/.*\.jsonl: cannot be opened: Not a directory\n")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limiting a process needs Linux")
def test_a_disk_that_is_full_at_the_end_is_an_error_and_what_was_saved_stays(
    tmp_path: Path,
) -> None:
    with chat("-n", "4", "--session", "tale", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt("Hello" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.wait_for(r"(?m)^> ?\Z")
        (saved,) = tmp_path.rglob("tale.jsonl")
        before = saved.read_bytes()
        terminal.limit_files(len(before))
        terminal.type("Hello again" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.wait_for(r"Error: .*tale\.jsonl: not saved: File too large\n")
        assert terminal.leave("/bye" + ENTER) == 1
        terminal.wait_for(r"Error: .*tale\.jsonl: not saved: File too large\n")
        assert "saved as" not in terminal.text
        assert "Traceback" not in terminal.text
    assert saved.read_bytes() == before
    with chat("-n", "4", "--session", "tale", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt("Hello again" + ENTER)
        terminal.wait_for(FIGURES)
        terminal.wait_for(r"(?m)^> ?\Z")
        terminal.limit_files(1)
        terminal.type("And again" + ENTER)
        terminal.wait_for("not saved")
        terminal.limit_files(resource.RLIM_INFINITY)
        assert terminal.leave("/bye" + ENTER) == 0
        terminal.wait_for("saved as 'tale'")
        assert "Traceback" not in terminal.text
        assert "Unhandled" not in terminal.text
    assert questions(tmp_path, "tale") == ["Hello", "Hello again", "And again"]


def test_what_is_typed_during_an_answer_waits_for_its_end() -> None:
    with chat("-n", "40") as terminal:
        terminal.at_prompt("Tell me a very long story about the sea." + ENTER)
        terminal.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        terminal.type("/show system" + ENTER)
        assert "/show" not in terminal.wait_for(FIGURES)
        terminal.wait_for("> /show system\nBe brief\\.\n")
        assert terminal.leave(CTRL_D) == 0


def test_a_sigterm_ends_the_chat_and_what_came_is_saved(tmp_path: Path) -> None:
    with chat("--session", "tale", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt("Tell me a very long story about the sea." + ENTER)
        terminal.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        assert terminal.end() == 143
        assert "Traceback" not in terminal.screen
    assert questions(tmp_path, "tale") == ["Tell me a very long story about the sea."]
    with chat() as terminal:
        terminal.at_prompt("")
        assert terminal.end() == 143
        assert "Traceback" not in terminal.screen


def test_a_terminal_that_goes_away_ends_the_chat_and_what_came_is_saved(tmp_path: Path) -> None:
    question = "Tell me a very long story about the sea."
    with chat("--session", "tale", XDG_DATA_HOME=str(tmp_path)) as terminal:
        terminal.at_prompt(question + ENTER)
        terminal.wait_for("(?i)the sea[^.]+ [a-z]+ ")
        assert terminal.hang_up() != 0
    (path,) = tmp_path.rglob("tale.jsonl")
    *_, asked, answer = map(json.loads, path.read_text().splitlines())
    assert asked["mes"] == question
    assert "the sea" in answer["mes"].lower()
    with chat() as terminal:
        terminal.at_prompt("")
        terminal.hang_up()
