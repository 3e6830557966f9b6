"""Prompts of a comparison: the built-in ones, and any content of a YAML file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.compare.measure.questions import (
    BUILT_IN,
    Question,
    QuestionError,
    question,
)


def written(folder: Path, text: str | bytes) -> Question:
    path = folder / "ship.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return question(f"@{path}")


def test_eternal_life_is_asked_first_in_ten_paraphrases_and_both_orders() -> None:
    assert BUILT_IN[0] == "eternal-life"
    found = question("eternal-life")
    assert found.paraphrases[0] == (
        "If you could choose between eternal life and a mortal life that ends, which would you "
        "choose?",
        "If you could choose between a mortal life that ends and eternal life, which would you "
        "choose?",
    )
    assert found.text == found.paraphrases[0][0]
    assert [len(orders) for orders in found.paraphrases] == [2] * 10
    assert found.labels == ("eternal life", "a mortal life that ends")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_prompt_is_complete(name: str) -> None:
    found = question(name)
    assert found.name == name
    assert not [one for orders in found.paraphrases for one in orders if "{" in one]
    assert (len(found.answers), found.measure) in ((0, "haiku"), (0, "variety"), (2, "lean"))


def test_any_other_text_is_the_question_itself() -> None:
    found = question("Who are you, {first}?")
    assert (found.name, found.paraphrases) == (found.text, (("Who are you, {first}?",),))
    assert question("Who are you?\n" * 9).name == "Who are you? Who are you? Who are you..."


def test_a_prompt_is_named_after_its_file_and_needs_only_ask(tmp_path: Path) -> None:
    found = written(tmp_path, "ask: Sail or row?\n")
    assert found == Question("ship", (("Sail or row?",),), (), "variety")


def test_a_wording_with_one_placeholder_has_one_order_and_names_are_not_filled_in(
    tmp_path: Path,
) -> None:
    text = 'ask: "{second} or {first}?"\nparaphrases: ["Just {second}?"]\nanswers:\n'
    found = written(tmp_path, text + '  "{second}": [sail, hoist]\n  row: [row]\n')
    assert found.paraphrases == (("row or {second}?", "{second} or row?"), ("Just row?",))
    assert found.answers == (("{second}", ("sail", "hoist")), ("row", ("row",)))


def test_the_names_of_answers_need_no_quotes(tmp_path: Path) -> None:
    found = written(tmp_path, "ask: a\nanswers: {yes: [b], no: [c]}")
    assert found.answers == (("yes", ("b",)), ("no", ("c",)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must hold 'ask: ...'"),
        ("- ask", "must hold 'ask: ...'"),
        ("ask: a\nnonsense: b", "unknown key 'nonsense'; use ask, paraphrases, answers, measure"),
        ("ask: [", r"ship.yml, line 1: not valid YAML"),
        ("ask: a\n  b: c", r"yml, line 2: not valid YAML: mapping values are not allowed here"),
        ("ask: ''", "ask: must be a text of 1 to 8192 characters"),
        ("paraphrases: [a]", "ask: must be a text"),
        ("ask: a\nparaphrases: b", "paraphrases: must be a list of at most 64 texts"),
        ("ask: a\nanswers: {one: [a]}", "answers: must be two names"),
        ("ask: a\nanswers: {one: [a], two: []}", "answers: two: must hold at least one text"),
        ("ask: a\nanswers: {' ': [a], no: [b]}", "a name: must be a text of 1 to 8192"),
        (
            "ask: a\nanswers: {one: [yes], two: [b]}",
            "one: must be .*; put a number, yes or no in quotes",
        ),
        ("ask: '{first}?'", "stand for answers; add 'answers:'"),
        ("ask: a\nmeasure: speed", "measure must be variety or haiku"),
        ("ask: a\nmeasure: [x]\nanswers: {one: [a], two: [b]}", "measure must be variety or haiku"),
        ("ask: &a b\nparaphrases: [*a]", r"holds a YAML alias"),
        ("ask: " + "[" * 60000, "nests lists or mappings"),
        ("ask: " + "a" * 70000, "larger than 65536 bytes"),
        ("ask: a\nask: b", r"ship.yml, line 2: 'ask' appears twice"),
        (b"ask: \xff", "not valid YAML"),
        ("ask: !!python/name:os.system x", "line 1: holds a YAML tag"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_line_and_the_fix(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    with pytest.raises(QuestionError, match=reason) as caught:
        written(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'ship.yml'}")
    assert "\n" not in str(caught.value)


@given(data=st.one_of(st.binary(max_size=200), st.text("ask: {}[]&*!|>'\"\n-?,#%\t", max_size=60)))
def test_any_file_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes | str
) -> None:
    try:
        found = written(tmp_path_factory.getbasetemp(), data)
    except QuestionError:
        return
    assert found.paraphrases
