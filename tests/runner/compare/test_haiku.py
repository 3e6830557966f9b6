"""Syllables of English lines, and 5-7-5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.results.haiku import is_haiku, syllables

BASHO = ("An old silent pond,", "a frog jumps into the pond:", "splash! Silence again.")


def test_an_english_haiku_is_one() -> None:
    assert [syllables(line) for line in BASHO] == [5, 7, 5]
    assert is_haiku([5, 7, 5])


def test_empty_lines_do_not_count_and_order_does() -> None:
    assert is_haiku([5, 0, 7, 0, 5])
    assert not is_haiku([7, 5, 5])
    assert not is_haiku([5, 7, 5, 5])
    assert not is_haiku([])


@pytest.mark.parametrize("line", ["", "1234 -- !?", "\n"])
def test_a_line_without_words_has_no_syllables(line: str) -> None:
    assert syllables(line) == 0


@given(st.lists(st.text(max_size=40), max_size=6))
def test_a_line_has_the_syllables_of_its_parts(parts: list[str]) -> None:
    assert syllables(" ".join(parts)) == sum(map(syllables, parts))
