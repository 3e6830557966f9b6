"""The parts of a chat without a model: escape sequences, characters, what a conversation keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.chat import text_of
from franken_gguf.runner.conversation import Conversation, Message
from franken_gguf.runner.escapes import EscapeFilter


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


def test_bytes_that_are_no_utf8_become_marks_and_lose_nothing_after_them() -> None:
    assert "".join(text(b"a\xff", b"b\xe6", b"c\xe6\xbc")) == "a\ufffdb\ufffdc\ufffd"


def test_an_answer_ends_before_a_stop_that_is_spelt_over_several_tokens() -> None:
    assert text(b"Yes", b".<|", b"im_", b"end|>", b"no", stops=("<|im_end|>",)) == ["Yes", "."]
    assert text(b"1 <", b" 2 <|", stops=("<|im_end|>",)) == ["1 ", "< 2 ", "<|"]


@given(st.text(), st.lists(st.integers(1, 5)))
def test_text_is_the_same_however_its_bytes_are_cut(whole: str, cuts: list[int]) -> None:
    data, pieces = whole.encode(), []
    for size in cuts:
        pieces.append(data[:size])
        data = data[size:]
    assert "".join(text(*pieces, data, stops=("never comes",))) == whole


def test_a_conversation_drops_its_oldest_turn_and_keeps_the_system_text() -> None:
    conversation = Conversation("Be kind.", [Message("assistant", "Welcome.")])
    conversation.keep("one", "1")
    conversation.keep("two", "2")
    assert conversation.drop_oldest_turn()  # the greeting
    assert conversation.drop_oldest_turn()
    assert conversation.with_question("three") == [
        Message("system", "Be kind."),
        Message("user", "two"),
        Message("assistant", "2"),
        Message("user", "three"),
    ]
    assert conversation.drop_oldest_turn()
    assert not conversation.drop_oldest_turn()
    assert conversation.with_question("three")[0] == Message("system", "Be kind.")
