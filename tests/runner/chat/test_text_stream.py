"""An answer on its way to the screen: characters, stops, escape sequences, lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from franken_gguf.runner.prompt.text_stream import text_of
from franken_gguf.runner.terminal.ansi_filter import EscapeFilter
from franken_gguf.runner.terminal.speech_marks import Mark
from franken_gguf.runner.terminal.word_wrap import WordWrap


def shown(*pieces: str) -> str:
    escapes = EscapeFilter()
    return "".join(map(escapes.feed, pieces))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain\ttext\nhere", "plain\ttext\nhere"),
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("a\x1b[38;2;1;2;3mb", "ab"),
        ("a\x9b31mb", "ab"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]52;c;cm0gLXJm\x1b\\b", "ab"),
        ("a\x9d0;title\x9cb", "ab"),
        ("a\x1bPq#0\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),
        ("a\x1b(Bb", "ab"),
        ("a\x1b\x1b[2Jb", "ab"),
        ("a\r\b\x00\x7f\x07b", "ab"),
        ("a\x1b]never ended\nb", "a\nb"),
        ("a\x1b[12\nb", "a\nb"),
        ("a\x1b]" + "x" * 2000 + "b", "a" + "x" * 977 + "b"),
        ("é 漢字 🙂", "é 漢字 🙂"),
    ],
)
def test_escape_sequences_go_and_text_stays_however_it_is_cut(text: str, left: str) -> None:
    assert shown(text) == left
    assert shown(*text) == left


@given(st.lists(st.text(st.sampled_from("\x1b\x9b\x9d\x9c\x07[]P\\0;mXé\n\t\r"), max_size=8)))
def test_nothing_that_steers_a_terminal_is_ever_shown(pieces: list[str]) -> None:
    result = shown(*pieces)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in result)
    assert result == shown("".join(pieces))
    assert result.count("\n") == "".join(pieces).count("\n")


def text(*tokens: bytes, stops: tuple[str, ...] = ()) -> list[str]:
    return list(text_of(range(len(tokens)), tokens.__getitem__, stops))


def test_a_character_is_shown_when_its_last_byte_has_come() -> None:
    assert text(b"a\xf0", b"\x9f\x99", b"\x82b", b"") == ["a", "🙂b"]


def test_bytes_that_are_not_utf8_become_marks_and_lose_nothing_after_them() -> None:
    assert "".join(text(b"a\xff", b"b\xe6", b"c\xe6\xbc")) == "a\ufffdb\ufffdc\ufffd"


def test_an_answer_ends_before_a_stop_that_is_spelt_over_several_tokens() -> None:
    assert text(b"Yes", b".<|", b"im_", b"end|>", b"no", stops=("<|im_end|>",)) == ["Yes", "."]
    assert text(b"1 <", b" 2 <|", stops=("<|im_end|>",)) == ["1 <", " 2 <|"]


@given(st.text(), st.lists(st.integers(1, 5)))
def test_text_is_the_same_however_its_bytes_are_cut(whole: str, cuts: list[int]) -> None:
    data, pieces = whole.encode(), []
    for size in cuts:
        pieces.append(data[:size])
        data = data[size:]
    assert "".join(text(*pieces, data, stops=("never comes",))) == whole


def wrapped(width: int, *pieces: str) -> str:
    wrap = WordWrap(lambda: width)
    spans = [span for piece in pieces for span in wrap.feed(piece)] + wrap.end()
    return "".join(text for text, _ in spans)


def test_lines_are_broken_between_words() -> None:
    text = "The keeper of the lighthouse counted the ships that came home."
    assert wrapped(30, text) == "The keeper of the lighthouse\ncounted the ships that came\nhome."


def test_a_word_is_shown_as_it_comes_unless_it_may_belong_to_the_next_line() -> None:
    wrap = WordWrap(lambda: 30)
    assert wrap.feed("The kee") == [("The kee", Mark.NONE)]
    assert wrap.feed("per of th") == [("per of", Mark.NONE)]
    assert wrap.feed("e light") == [(" the", Mark.NONE)]
    assert wrap.feed("house ") == [(" lighthouse", Mark.NONE)]
    assert wrap.end() == []


def test_a_line_ends_at_the_width_that_the_terminal_has_then() -> None:
    widths = iter([60] * 8 + [12] * 99)
    wrap = WordWrap(lambda: next(widths))
    spans = wrap.feed("The sea was calm and the lamp was lit all night.") + wrap.end()
    first, *rest = "".join(text for text, _ in spans).split("\n")
    assert len(first) <= 60
    assert rest and max(map(len, rest)) <= 12


def test_spaces_at_the_ends_of_lines_and_blank_lines_at_the_end_are_left_out() -> None:
    assert wrapped(40, "if x:  \n    y \n\nz \n\n") == "if x:\n    y\n\nz"
    assert wrapped(40, "a\tb") == "a       b"


def test_an_emoji_of_several_characters_is_two_columns_and_stays_whole() -> None:
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    assert wrapped(6, *family * 5) == f"{family * 3}\n{family * 2}"
    assert wrapped(4, *"e\u0301" * 6) == "e\u0301" * 4 + "\n" + "e\u0301" * 2


def test_text_without_spaces_fills_its_lines() -> None:
    assert wrapped(10, "漢字漢字漢字漢字") == "漢字漢字漢\n字漢字"
    assert wrapped(10, "x" * 25) == "x" * 10 + "\n" + "x" * 10 + "\n" + "x" * 5


@given(st.text(st.sampled_from("ab \n字é"), max_size=80), st.integers(2, 40), st.integers(1, 9))
def test_no_line_is_too_long_and_no_word_is_lost_however_the_text_comes(
    text: str, width: int, size: int
) -> None:
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    result = wrapped(width, *pieces)
    assert all(cell_len(line) <= width for line in result.split("\n"))
    assert "".join(result.split()) == "".join(text.split())
    assert result == wrapped(width, text)


@given(st.lists(st.text("abc", min_size=1, max_size=9), max_size=30), st.integers(30, 60))
def test_short_words_stay_whole(words: list[str], width: int) -> None:
    assert wrapped(width, " ".join(words)).split() == words
