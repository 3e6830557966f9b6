"""Banned phrases: exactly which text matches and which is held back."""

from __future__ import annotations

import codecs
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.engine.ban_filter import Held
from franken_gguf.runner.sampling.ban_list import BanError, Banned, Found, lines

few_letters = st.text("ab A", max_size=12)
phrases = st.lists(st.text("abA", min_size=1, max_size=4), max_size=5)


def test_a_phrase_is_found_in_any_case_and_inside_a_word() -> None:
    banned = Banned(["shiver down", "delve"])
    assert banned.look("A Shiver Down her spine", 0) == Found(2, 2)
    assert banned.look("they delved", 0).start == 5


def test_only_text_that_could_still_become_a_phrase_is_held() -> None:
    banned = Banned(["shiver down her spine"])
    assert banned.look("He sat. A shiver d", 0) == Found(None, 10)
    assert banned.look("He sat. A shiver of", 0) == Found(None, 19)
    assert banned.look("She was sh", 0) == Found(None, 8)


@given(phrases, few_letters)
def test_the_first_phrase_is_found_where_a_plain_search_finds_it(
    some: list[str], text: str
) -> None:
    found = Banned(some).look(text, 0)
    lower = [text.lower().find(phrase.lower()) for phrase in some]
    places = [place for place in lower if place >= 0]
    assert found.start == (min(places) if places else None)


@given(phrases, few_letters, few_letters)
def test_safe_text_is_in_no_phrase_that_can_still_come(
    some: list[str], text: str, more: str
) -> None:
    banned = Banned(some)
    now = banned.look(text, 0)
    later = banned.look(text + more, 0)
    if now.start is None and later.start is not None:
        assert later.start >= now.safe


def test_a_regular_expression_is_found_and_a_partial_match_is_held() -> None:
    banned = Banned([r"/\bshivers?\b.{0,9}\bspine/"])
    assert banned.look("A shiver ran down the", 0) == Found(None, 21)
    assert banned.look("A shiver in the sp", 0).safe == 2
    assert banned.look("a SHIVER in her spine", 0).start == 2
    # The words before count, but are not looked for in.
    assert banned.look("ashiver up the spine", 1).start is None


def test_a_complete_match_after_a_partial_one_is_found() -> None:
    assert Banned(["/a.*z/", "/b/"]).look("a b c", 0) == Found(2, 0)
    assert Banned(["/a.*z|b/"]).look("a b c", 0).start == 2


@given(st.sampled_from(["ab*a", "a.b|bb", "b+", "(a|b)a$", r"\bA"]), few_letters)
def test_a_match_of_a_regular_expression_is_found_where_a_plain_search_finds_it(
    expression: str, text: str
) -> None:
    expected = re.search(expression, text, re.IGNORECASE)
    found = Banned([f"/{expression}/"]).look(text, 0)
    assert found.start == (expected and expected.start())


@given(st.text(max_size=12), st.data())
def test_tokens_that_are_parts_of_characters_are_handed_out_with_the_whole(
    text: str, data: st.DataObject
) -> None:
    pieces = data.draw(st.lists(st.binary(max_size=3), max_size=4))
    encoded = text.encode(errors="replace") + b"".join(pieces)
    size = data.draw(st.integers(1, 4))
    parts = [encoded[place : place + size] for place in range(0, len(encoded), size)]
    held, said = Held(parts.__getitem__), ""
    out: list[int] = []
    for token in range(len(parts)):
        held.add(token)
        some, tokens = held.release(data.draw(st.integers(0, len(held.text))))
        said, out = said + some, out + tokens
        # At any time what was said and what is held are the text of all, but for an open end.
        whole = b"".join(parts[: token + 1])
        assert said + held.text == codecs.utf_8_decode(whole, "replace", False)[0]
        assert said == b"".join(parts[each] for each in out).decode(errors="replace")
        assert out + held.tokens == list(range(token + 1))


def test_an_expression_that_never_ends_holds_back_a_bounded_text() -> None:
    banned = Banned(["/a.*z/"])
    assert banned.look("a" + "b" * 300, 0).safe == 0
    assert banned.look("a" + "b" * 600, 0) == Found(None, 601)


def test_an_expression_that_takes_too_long_is_used_no_more_and_the_others_are() -> None:
    banned = Banned(["/(a|aa)+$/", "b"])
    started = time.process_time()
    for _ in range(50):
        banned.look("a" * 80 + "!", 0)
    assert time.process_time() - started < 5
    assert banned.look("a" * 80 + "b", 0).start == 80
    assert banned.given_up == ["/(a|aa)+$/"]


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("", "1 to 500"),
        (" ", "1 to 500"),
        ("x" * 501, "1 to 500"),
        ("/(/", "not a usable regular expression"),
        ("/((a{1000}){1000}){1000}/", "repeat more than 100000 times"),
    ],
)
def test_an_invalid_phrase_is_refused(phrase: str, reason: str) -> None:
    with pytest.raises(BanError, match=reason):
        Banned([phrase])


@given(st.text(max_size=20))
def test_any_text_between_slashes_is_an_expression_or_refused(text: str) -> None:
    try:
        banned = Banned([f"/{text}/"])
    except BanError:
        return
    banned.look("some text", 0)


def test_a_file_has_a_phrase_on_each_line() -> None:
    assert list(lines("# overused\n\n a shiver \ndelve\r\n")) == ["a shiver", "delve"]


def test_a_phrase_named_twice_is_banned_once() -> None:
    assert Banned(["a", "b", "a"]).phrases == ("a", "b")
    assert not Banned()
