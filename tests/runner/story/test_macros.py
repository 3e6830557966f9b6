"""Macros of cards and lorebooks: plain substitution, whatever a card tries."""

from __future__ import annotations

from datetime import datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.story.card_fields import StoryError
from franken_gguf.runner.story.macros import Macros

WORDS = {"user": "Ann", "char": "Mara", "description": "tall"}


def expanded(text: str, seed: int = 1, salt: str = "chat", **words: str) -> str:
    now = datetime(2026, 3, 7, 8, 9)
    return Macros({**WORDS, **words}, dice=Random(seed), salt=salt, now=now).expand(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{user}} and {{char}}", "Ann and Mara"),
        ("{{USER}}, <user>, <BOT>, {{ Char }}, <Char>", "Ann, Ann, Mara, Mara, Mara"),
        ("{{description}}{{noop}}{{original}}", "tall"),
        ("a{{// for {{user}} alone }}b{{comment: c}}d{{hidden_key:e}}f", "abdf"),
        ("a\n\n{{trim}}\n b{{newline}}c", "a b\nc"),
        ("{{random:x}} {{random::x}} {{pick:x}} {{random:x\\,y}}", "x x x x,y"),
        ("{{random::{{user}}}}", "Ann"),
        ("{{roll:d1}} {{roll:1}} {{roll 3d1}} {{roll:2D1+5}} {{roll::1}}", "1 1 3 7 1"),
        ("{{reverse:abc}}", "cba"),
        ("{{time}} {{date}} {{weekday}} {{isodate}}", "08:09 07 March 2026 Saturday 2026-03-07"),
        ("{{nobody:{{user}}}} {{ {{user}} }} {{user", "{{nobody:Ann}} {{ Ann }} {{user"),
    ],
)
def test_macros_stand_for_their_texts_and_all_else_stays(text: str, result: str) -> None:
    assert expanded(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "{{nobody}} }} {{}}",
        "{{roll:x}} {{roll:0}} {{roll:999d9}} {{roll:9999999}}",
        "{% for x in y %}{{ 7 * 7 }}{{ ''.__class__ }}{% endfor %}",
    ],
)
def test_text_that_is_not_a_macro_stays_and_nothing_is_executed(text: str) -> None:
    assert expanded(text) == text


def test_what_stands_for_a_macro_is_not_read_again() -> None:
    assert expanded("{{user}} {{description}}", user="{{char}}", description="<BOT>") == (
        "{{char}} <BOT>"
    )


def test_random_differs_by_the_dice_and_pick_only_by_the_chat() -> None:
    choices = {"a", "b", "c"}
    assert {expanded("{{random:a, b, c}}", seed) for seed in range(40)} == choices
    assert {expanded("{{random::a::b::c}}", seed) for seed in range(40)} == choices
    assert {expanded("{{roll:d3}}", seed) for seed in range(40)} == {"1", "2", "3"}
    assert len({expanded("{{pick:a,b,c}}", seed) for seed in range(40)}) == 1
    assert {expanded("{{pick:a,b,c}}", salt=str(salt)) for salt in range(40)} == choices


def test_a_text_that_would_grow_beyond_all_measure_is_refused() -> None:
    with pytest.raises(StoryError, match="its macros expand to more than 4194304 characters"):
        expanded("{{description}}" * 5000, description="x" * 1000)


@given(st.text(st.sampled_from("{}<>/:,d1user randompick\\\n"), max_size=40))
def test_any_text_is_expanded(text: str) -> None:
    assert expanded(text).count("{") <= text.count("{")


def test_deep_and_long_braces_take_no_time() -> None:
    assert len(expanded("{{" * 50_000 + "}}" * 50_000 + "\n" * 50_000)) == 250_000
