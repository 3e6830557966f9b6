"""Invalid grammars are refused with line and column; none crashes llama.cpp."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_cpp import llama_cpp as lib

from franken_gguf.runner.engine.grammar import grammar_sampler
from franken_gguf.runner.engine.vocabulary import Vocabulary, load_vocabulary
from franken_gguf.runner.sampling.settings import SamplingError
from support.models import smollm2

# What a hostile hand may put into a grammar: its own signs, more often than letters.
SIGNS = st.sampled_from([*'()[]{}"\\|*+?:=.,-<>!#\n 019ax^', "root", "::=", "{1,5}", "[^a-z]"])
GRAMMAR = 'root ::= ("a" [b-d]{1,3} rest)*  # a comment\nrest ::= "\\"" | .? rest2\nrest2 ::= "é"\n'


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    with load_vocabulary(smollm2()) as vocabulary:
        yield vocabulary


@pytest.mark.parametrize(
    ("grammar", "complaint"),
    [
        ('root ::= "a"\nb ::= c )', "line 2, column 9: expecting newline or end, not ')'"),
        ('root ::= "é" @', "line 1, column 14: expecting newline or end, not '@'"),
        ('root ::= "a" at b\nfoo at bar', "line 2, column 5: expecting ::=, not 'at bar'"),
        ("root ::= (", "line 1, column 11: expecting ')'"),
        ('root ::= "\\x\n', "line 1, column 13: expecting 2 hex chars"),
        ("root ::= an-other\n", "line 1, column 10: Undefined rule identifier 'an-other'"),
        ('root ::= "a"{5,2}', "line 1, column 13: the minimum 5 is above the maximum 2"),
        ("root ::= " + "(" * 101, "line 1, column 110: brackets nested more than 100 deep"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_column(
    vocabulary: Vocabulary, grammar: str, complaint: str
) -> None:
    with pytest.raises(SamplingError) as caught:
        grammar_sampler(vocabulary.handle, grammar)
    assert str(caught.value) == f"the grammar, {complaint}"


def test_a_mistake_without_a_position_is_reported_without_one(vocabulary: Vocabulary) -> None:
    with pytest.raises(
        SamplingError, match=r"cannot be read: .* does not contain a 'root' symbol$"
    ):
        grammar_sampler(vocabulary.handle, 'rule ::= "a"')


def test_brackets_and_counts_in_a_text_or_comment_are_none(vocabulary: Vocabulary) -> None:
    text = "(" * 200 + "{5,2}"
    grammar = f'root ::= "{text}\\"{text}" [{text}] # {text}'
    lib.llama_sampler_free(grammar_sampler(vocabulary.handle, grammar))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, len(GRAMMAR)), st.integers(0, 6), SIGNS), max_size=6),
)
def test_a_damaged_grammar_is_read_or_refused_in_one_line(
    vocabulary: Vocabulary, changes: list[tuple[int, int, str]]
) -> None:
    grammar = GRAMMAR
    for place, gone, put in changes:
        grammar = grammar[:place] + put + grammar[place + gone :]
    try:
        lib.llama_sampler_free(grammar_sampler(vocabulary.handle, grammar))
    except SamplingError as error:
        assert "\n" not in str(error)


def test_standard_error_is_as_it_was_after(
    vocabulary: Vocabulary, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SamplingError):
        grammar_sampler(vocabulary.handle, "root ::= (")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
