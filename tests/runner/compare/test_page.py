"""The report page: one self-contained file that shows untrusted text as text."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.runner.compare.report.page import page
from franken_gguf.runner.compare.report.page_parts import answers
from franken_gguf.runner.compare.results.document import Comparison, GreedyAnswer, Routing
from franken_gguf.runner.compare.results.metrics import LayerRouting
from support.comparisons import HAIKU, HOSTILE, answer, comparison, drawn, model, score


class Structure(HTMLParser):
    """The tags of a page with the names of their attributes, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def text(found: Comparison) -> str:
    return " ".join(Structure(page(found)).text.split())


def test_the_same_comparison_is_the_same_page() -> None:
    assert page(drawn(7)) == page(drawn(7)) != page(drawn(8))


def test_a_page_loads_nothing_and_has_no_script() -> None:
    source = page(drawn(1))
    tags = {tag for tag, _ in Structure(source).tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not re.search(r"url\(|@import|https?:|(?<![#\w])src=", source)
    assert re.findall(r'href="(.)', source).count("#") == len(re.findall("href=", source))
    policy = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', source)
    assert [html.unescape(text).split(";")[0] for text in policy] == ["default-src 'none'"]


@settings(max_examples=25, deadline=None)
@given(st.text(min_size=1) | st.text("<>&\"'{}%/=`-!", min_size=1))
def test_no_text_of_a_model_changes_the_structure_of_the_page(words: str) -> None:
    plain, hostile = (Structure(page(drawn(1, words=text))) for text in ("x", f"x{words}"))
    assert hostile.tags == plain.tags


def test_hostile_text_is_shown_with_invisible_characters_escaped() -> None:
    source = page(drawn(1, words=HOSTILE))
    source.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", source)
    shown = Structure(source).text
    for part in ("<script>alert(1)</script>", "{{ 7*7 }}", r"\x00\x1b[31m\u202e\ud800&lt;"):
        assert part in shown


def test_an_answer_is_faint_up_to_the_first_token_that_differs() -> None:
    base, other = answers(drawn(1), 0)[:2]
    assert (base.start, base.token, base.rest) == ("", "", "So it its way, and goes on.")
    assert (other.start, other.token, other.rest) == ("So it ", "its", " way, and goes on.")
    source = page(drawn(1))
    assert '<span class="start">So it </span><mark>its</mark> way, and goes on.' in source
    assert "Differs from F16's answer after 2 tokens:" in source


def test_an_identical_answer_is_marked_as_such() -> None:
    models = [model(name, 64, prompts=(answer("As it is."),)) for name in ("F16", "Q8_0")]
    source = page(comparison(*models, prompts=(HAIKU,)))
    assert source.count("Identical, token for token.") == 1
    assert '<span class="start">As it is.</span>' in source


def test_a_difference_beyond_the_end_of_an_answer_is_accepted() -> None:
    found = drawn(1)
    other = found.models[1]
    assert other.prompts[0]
    cut = replace(other.prompts[0], greedy=replace(other.prompts[0].greedy, text="So"))
    broken = replace(other, prompts=(cut, None))
    piece = answers(replace(found, models=(found.models[0], broken)), 0)[1]
    assert (piece.start, piece.token, piece.rest) == ("So", "", "")
    assert "Q8_0" in page(replace(found, models=(found.models[0], broken)))


@pytest.mark.parametrize(
    ("found", "shown", "hidden"),
    [
        (comparison(model("F16", 64)), "Which quant", "How far from"),
        (
            comparison(model("F16", 64, text=score(None)), model("Q8_0", 32, error="no such file")),
            "failed",
            "How far from",
        ),
        (
            comparison(model("F16", 64, text=score(None)), model("Q8_0", 32, text=score(0.1))),
            "How far from F16",
            "Which experts the router chooses",
        ),
    ],
)
def test_parts_that_were_not_measured_are_left_out(
    found: Comparison, shown: str, hidden: str
) -> None:
    assert shown in text(found) and hidden not in text(found)


def test_a_dense_model_beside_a_mixture_is_labelled_dense() -> None:
    found = drawn(1)
    dense = replace(found.models[2], experts=0, routing=None)
    assert "dense" in text(replace(found, models=(*found.models[:2], dense)))


def test_the_entropy_of_the_load_stands_above_the_map_and_in_both_tables() -> None:
    layers = LayerRouting((0.25,) * 4), LayerRouting((0.5, 0.25, 0.25, 0))
    found = comparison(model("F16", 64, experts=4, routing=Routing(9, layers)))
    assert "Load, with an entropy of 87.5 %" in text(found)
    cells = re.findall(r"<t[hd][^>]*>([^<]*)<", page(found))
    assert cells[cells.index("layer") :][:14] == [
        *("layer", "same experts", "KL divergence", "entropy", "load of each expert"),
        *("0", "", "", "100.0 %", "25.0 25.0 25.0 25.0 %"),
        *("1", "", "", "75.0 %"),
    ]
    assert cells[-2:] == ["entropy of the load", "87.5 %"]


def test_a_model_that_answered_no_prompt_still_has_a_row() -> None:
    found = drawn(1)
    silent = replace(found.models[2], prompts=(), error="out of memory")
    shown = text(replace(found, models=(*found.models[:2], silent)))
    assert "Q4_K_M failed" in shown and "out of memory" in shown


def test_an_empty_answer_is_shown() -> None:
    silent = answer("", greedy=GreedyAnswer("", 0, False))
    assert text(comparison(model("F16", 64, prompts=(silent,)), prompts=(HAIKU,)))
