"""Quoted speech and actions in an answer, however its text is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.runner.terminal.speech_marks import Mark, MarkedText, Span, merged

NONE, SPEECH, ACTION = Mark.NONE, Mark.SPEECH, Mark.ACTION


def marked(*pieces: str) -> list[Span]:
    text = MarkedText()
    return merged([span for piece in pieces for span in text.feed(piece)] + text.end())


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ('"Hi," she says.', [('"Hi,"', SPEECH), (" she says.", NONE)]),
        (
            "“Hi,” «no» 「or」",
            [("“Hi,”", SPEECH), (" ", NONE), ("«no»", SPEECH), (" ", NONE), ("「or」", SPEECH)],
        ),
        ("*nods* yes", [("*nods*", ACTION), (" yes", NONE)]),
        ('*says "no" now*', [("*says ", ACTION), ('"no"', SPEECH | ACTION), (" now*", ACTION)]),
        ('"I *do* care"', [('"I ', SPEECH), ("*do*", SPEECH | ACTION), (' care"', SPEECH)]),
        (
            "It's the keepers' lamp, isn\u2019t it",
            [("It's the keepers' lamp, isn\u2019t it", NONE)],
        ),
        ('a 6" nail, 2*3*4, * not this', [('a 6" nail, 2*3*4, * not this', NONE)]),
        ("**bold** and *so **very** on*", [("**bold** and ", NONE), ("*so **very** on*", ACTION)]),
        ("***both***", [("***both***", ACTION)]),
        ('"open\nnext', [('"open', SPEECH), ("\nnext", NONE)]),
        ('*open\n"next', [("*open", ACTION), ("\n", NONE), ('"next', SPEECH)]),
        ('end." She went', [('end." She went', NONE)]),
        ('`"a" *b*` c', [('`"a" *b*` c', NONE)]),
        ('```py\nx = "a"\n``` "b"', [('```py\nx = "a"\n``` ', NONE), ('"b"', SPEECH)]),
        ("*" * 20, [("*" * 20, NONE)]),
    ],
)
def test_speech_and_actions_are_found_and_nothing_else(text: str, spans: list[Span]) -> None:
    assert marked(text) == spans
    assert marked(*text) == spans


@given(st.text(st.sampled_from('ab \n*`"“”'), max_size=60), st.integers(1, 9))
def test_no_character_is_lost_and_pieces_make_no_difference(text: str, size: int) -> None:
    spans = marked(*(text[n : n + size] for n in range(0, len(text), size)))
    assert spans == marked(text)
    assert "".join(part for part, _ in spans) == text


def test_a_line_of_asterisks_does_not_hold_the_text_back() -> None:
    shown = "".join(text for text, _ in MarkedText().feed("*" * 1000))
    assert len(shown) > 980
