"""What the demo's adapters learn from: books cut into conversations, and worked word problems."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from adapter_texts import (
    ADAPTERS,
    BOOKS,
    READERS,
    WORD_PROBLEMS,
    Conversation,
    conversations,
    straight,
)
from hypothesis import given
from hypothesis import strategies as st
from word_problems import KINDS, word_problem

STEPS = dict(zip(KINDS, (2, 2, 1, 2, 2, 2, 0), strict=True))  # sums in each kind's answer


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(st.integers())
def test_each_sum_of_a_word_problem_is_right_and_the_last_one_is_the_answer(
    kind: Callable[[Random], tuple[str, str, str]], seed: int
) -> None:
    _, steps, answer = kind(Random(seed))
    sums = re.findall(r"(\d+) ([-+x/]) (\d+) = (\d+)", steps)
    assert len(sums) == STEPS[kind]
    for left, sign, right, result in sums:
        a, b = int(left), int(right)
        assert int(result) == {"+": a + b, "-": a - b, "x": a * b, "/": a / b}[sign]
    assert [result for *_, result in sums[-1:]] == re.findall(r"\d+", answer)


@given(st.integers())
def test_a_question_of_order_has_the_third_person_as_its_answer(seed: int) -> None:
    question, _, answer = KINDS[-1](Random(seed))
    assert question.endswith(f"is taller than {answer}. Who is the shortest?")


def test_the_same_seed_makes_the_same_problem() -> None:
    assert word_problem(Random(7)) == word_problem(Random(7)) != word_problem(Random(8))


def test_the_last_tenth_is_held_out_and_never_learnt(tmp_path: Path) -> None:
    learnt, held_out = conversations(tmp_path, WORD_PROBLEMS)
    assert len(learnt) == 540
    assert 50 < len(held_out) <= 60
    assert not [one for one in held_out if one in learnt]


def test_every_source_has_a_book_and_a_reader() -> None:
    sources = {source for sources in ADAPTERS.values() for source in sources}
    assert sources == {WORD_PROBLEMS, *BOOKS} == {WORD_PROBLEMS, *READERS}


def test_a_missing_book_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"pygmalion\.txt"):
        conversations(tmp_path, "Pygmalion")


def read(source: str, text: str) -> list[list[str]]:
    return [contents(one) for one in READERS[source](straight(text))]


def contents(conversation: Conversation) -> list[str]:
    return [message["content"] for message in conversation]


def test_a_tale_is_told_in_passages_under_its_title() -> None:
    long = "\n".join(["It was a long way to the sea."] * 30)
    end = "_And_ \u201cthen\u201d it ended well."
    text = f"CONTENTS\n\n  The Owl\n\nTHE OWL AND THE SEA\n\n{long}\n\n{end}\n"
    assert read("Andersen's tales", text) == [
        ["Tell me the story of The Owl and the Sea.", long.replace("\n", " ")],
        ["Go on with the story of The Owl and the Sea.", 'And "then" it ended well.'],
    ]


def test_a_puzzle_finds_its_solution_unless_either_needs_a_picture() -> None:
    text = (
        "1.--EGGS.\n\nHow many\neggs?\n\n2.--A MAZE.\n\nSee the illustration.\n\n"
        "3.--LOST.\n\nWhy?\nSOLUTIONS.\n\n1.--EGGS.\n\nSeven.\n\n2.--A MAZE.\n\nLeft.\n"
    )
    assert read("Dudeney's puzzles", text) == [["How many eggs?", "Seven."]]


def test_every_second_sonnet_is_asked_for_by_its_first_line() -> None:
    text = "THE SONNETS\n\n  I\n\n  One,\n    Two.\n\n  II\n\n  Three,\n  Four.\n"
    assert read("Shakespeare's sonnets", text) == [
        ["Write a sonnet.", "One,\nTwo."],
        ['Write a sonnet that begins "Three,"', "Three,\nFour."],
    ]


def test_a_verse_that_overruns_its_line_is_one_verse() -> None:
    text = "BOOK I.  SONGS\n\n\nTo the Sea\n\n  O sea,\n      wide,\n  O waves!\n\n\nBOOK II\n"
    assert read("Leaves of Grass", text) == [
        ['Write a poem called "To the Sea".', "O sea, wide,\nO waves!"]
    ]


def test_speeches_lose_names_and_stage_directions_and_take_turns() -> None:
    names = ["LIZA", "MRS. HILL [rising]", "THE NOTE TAKER", "HIGGINS"] * 4
    speeches = [f"{name}. Number {n} [aside],\nhere! [Exit]." for n, name in enumerate(names)]
    text = "PREFACE\n\nACT I\n\nRain.\n\n" + "\n\n".join(speeches) + "\n\nThe rest of the story"
    first, second = read("Pygmalion", text)
    assert first == [f"Number {n}, here!" for n in range(8)]
    assert second == [f"Number {n}, here!" for n in range(7, 15)]
