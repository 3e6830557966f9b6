"""What of a saved chat a screen has room for, and characters of several code points."""

from __future__ import annotations

from franken_gguf.runner.chat.replay import Line, fitting
from franken_gguf.runner.terminal.graphemes import beginning, columns, in_whole, spelled
from franken_gguf.runner.terminal.text import printable

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
ASKED = Line("Who lights it?", is_yours=True)


def test_an_exchange_that_fits_is_shown_whole() -> None:
    lines = (ASKED, Line("I do.\n\nEvery night.", "Mara"))
    assert fitting(lines, 40, 10) == lines


def test_a_question_for_which_there_is_no_room_is_left_out_whole() -> None:
    answer = Line("one\ntwo\nthree")
    assert fitting((ASKED, answer), 40, 3) == (answer,)


def test_a_longer_answer_is_cut_at_a_paragraph_else_a_sentence_else_a_word() -> None:
    first, last = "The sea rose. " * 20, "She lit the lamp."
    assert fitting((ASKED, Line(f"{first}\n\n{last}", "Mara")), 40, 3) == [
        Line(f"... {last}", "Mara")
    ]
    (sentences,) = fitting((Line(first.strip()),), 40, 3)
    assert sentences.text == "... " + " ".join(["The sea rose."] * 8)
    (words,) = fitting((Line("sea " * 100),), 40, 2)
    assert words.text == "... " + " ".join(["sea"] * 19)
    (letters,) = fitting((Line("a" * 500),), 40, 2)
    assert letters.text == "... " + "a" * 76


def test_an_emoji_of_several_characters_counts_and_is_cut_as_one() -> None:
    assert columns(FAMILY) == 2
    assert beginning(FAMILY * 9, 3) == FAMILY * 3 + "..."
    assert beginning("short", 40) == "short"


def test_tokens_that_share_a_character_are_taken_together() -> None:
    data = FAMILY.encode()
    pieces = [b"a", data[:2], data[2:9], data[9:], b"b", b"e", "\u0301".encode(), b"\xff", b"!"]
    assert [(one.text, one.first, one.end) for one in in_whole(pieces)] == [
        ("a", 0, 1),
        (FAMILY, 1, 4),
        ("b", 4, 5),
        ("e\u0301", 5, 7),
        ("\ufffd", 7, 8),
        ("!", 8, 9),
    ]
    assert spelled(data[:2]) == "<0xF0><0x9F>"


def test_joiners_are_shown_inside_emoji_alone_and_bidi_controls_never() -> None:
    flag, medic = "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f469\U0001f3fd\u200d\u2695\ufe0f"
    assert printable(f"{FAMILY} {flag} {medic}") == f"{FAMILY} {flag} {medic}"
    assert printable("a\u200db") == "a\\u200db"
    assert printable(f"{FAMILY}\u200d") == f"{FAMILY}\\u200d"
    assert printable("\u202e\u2066\u200b") == "\\u202e\\u2066\\u200b"
