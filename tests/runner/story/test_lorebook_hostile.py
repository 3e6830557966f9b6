"""Lorebooks that strangers wrote: read or refused in one line, and no regex holds a turn up."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.story.active_lore import Lore, Moment
from franken_gguf.runner.story.card_fields import StoryError, parse
from franken_gguf.runner.story.lore_keys import Key, KeyIndex
from franken_gguf.runner.story.lorebook import lorebook_from, read_lorebook
from support.cards import mutated
from support.lorebooks import IN_A_CARD, WORLD_INFO, book

SOON = 1e12  # a deadline of no concern


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("{}", "it is not a lorebook: it has no entries"),
        ('{"entries": 5}', "it is not a lorebook"),
        ('{"entries": ' + "[" * 10_000, "nested too deeply|is damaged"),
    ],
)
def test_a_file_that_is_not_a_lorebook_is_refused_in_one_line(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(StoryError, match=reason) as caught:
        read_lorebook(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
_MEMBERS = sorted({*WORLD_INFO["entries"]["0"], *IN_A_CARD["entries"][0], "use_regex"})


@given(st.lists(st.dictionaries(st.sampled_from(_MEMBERS), _ANYTHING, max_size=6), max_size=4))
def test_entries_of_any_kind_are_read_and_called(entries: list[dict[str, Any]]) -> None:
    read = lorebook_from({"entries": entries}, "any")
    Lore([read]).matches(Moment(["lamp"], budget=100))


def test_mutated_books_are_read_or_refused_in_one_line() -> None:
    dice = random.Random(21)
    seeds = [json.dumps(found).encode() for found in (WORLD_INFO, IN_A_CARD)]
    read = 0
    for number in range(2000):
        try:
            found = lorebook_from(parse(mutated(seeds[number % 2], dice)), "any")
            Lore([found]).matches(Moment(["lamp oil", "wick fire"], budget=100))
            read += 1
        except StoryError as error:
            assert "\n" not in str(error)
    assert 200 < read < 1900


HOSTILE = "/(x+x+)+y/"


def test_a_regex_without_end_is_tried_once_and_never_again() -> None:
    lore = Lore([book({"keys": [HOSTILE, "lamp"]})])
    started = time.process_time()
    assert len(lore.matches(Moment(["x" * 3000 + " lamp"]))) == 1
    assert time.process_time() - started < 0.5
    started = time.process_time()
    for number in range(20):
        lore.matches(Moment(["x" * 3000 + str(number)]))
    assert time.process_time() - started < 0.5


def test_a_regex_whose_counts_would_take_all_memory_is_never_compiled() -> None:
    lore = Lore([book({"keys": ["/((l{1000}){1000}){1000}/", "lamp"]})])
    started = time.process_time()
    assert len(lore.matches(Moment(["lamp"]))) == 1
    assert time.process_time() - started < 0.5


def test_a_thousand_regexes_without_end_hold_up_no_turn() -> None:
    lore = Lore([book(*({"keys": [f"/(x+x+)+y{n}/"]} for n in range(1000)))])
    for number in range(3):
        started = time.process_time()
        lore.matches(Moment(["x" * 3000 + str(number)]))
        assert time.process_time() - started < 0.5


def test_regexes_that_a_turn_did_not_reach_have_the_next_turns() -> None:
    keys = [Key(f"/k{n}\\b/") for n in range(50)]
    index = KeyIndex(keys)
    assert index.found("k49", deadline=0) == set()
    assert index.found("k49", SOON) == {49}
