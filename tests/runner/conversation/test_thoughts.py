"""What a model thinks is told from what it answers, however its text arrives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.conversation.thoughts import (
    ThoughtsLine,
    ThoughtSplitter,
    is_thinking,
    thoughts_of,
)

TEXTS = {
    "<think>\nIt is</ late.\n</think>\n\nGood night.": ("\nIt is</ late.\n", "Good night."),
    " \n<think>a</think>b<think>c</think>": ("a", "b<think>c</think>"),
    "No <think>thoughts</think>": ("", "No <think>thoughts</think>"),
    "<think>never ends </thi": ("never ends </thi", ""),
    "<thin air": ("", "<thin air"),
    "<think>": ("", ""),
    "<think></think>": ("", ""),
    "": ("", ""),
}


@given(st.sampled_from(sorted(TEXTS)), st.lists(st.integers(0, 60), max_size=8))
def test_a_text_is_split_in_the_same_way_in_whatever_pieces_it_comes(
    text: str, cuts: list[int]
) -> None:
    splitter = ThoughtSplitter()
    edges = [0, *sorted(cuts), len(text)]
    parts = [splitter.feed(text[a:b]) for a, b in pairwise(edges)]
    parts.append(splitter.end())
    found = "".join(thought for thought, _ in parts), "".join(answer for _, answer in parts)
    assert found == TEXTS[text]


def test_an_answer_does_not_wait_for_its_end() -> None:
    splitter = ThoughtSplitter()
    assert splitter.feed("<think>so</think>\n\nGood ") == ("so", "Good ")
    assert splitter.feed("night") == ("", "night")


def test_an_empty_block_without_an_end_is_open() -> None:
    assert is_thinking("<think>")


@pytest.mark.parametrize("text", ["<think>\na", "<think>a</think"])
def test_a_block_without_an_end_is_still_being_thought(text: str) -> None:
    assert is_thinking(text)
    assert not is_thinking(f"{text}</think>")
    assert thoughts_of(f"{text}</think> b").startswith("a")


def test_the_line_has_a_dot_for_every_25_words_and_their_number() -> None:
    line = ThoughtsLine()
    assert line.feed("\n ") == ""
    assert line.feed("It is la") == "thinking "
    assert line.feed("te. " + "word " * 48) == ".."
    assert line.end() == " 51 words (/thoughts shows them)\n"
    assert line.end() == ""
