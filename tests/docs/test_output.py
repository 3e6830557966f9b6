"""The output that README.md and docs/ show is what the commands print today."""

from __future__ import annotations

import re

import pytest
from make_output import BLOCK, PAGES, planned_lines, refreshed

from support.models import ROOT


@pytest.mark.parametrize("page", PAGES)
def test_the_output_on_a_page_is_what_its_commands_print(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert BLOCK.search(text), "a page without output is not one of PAGES"
    assert refreshed(text) == text, f"{page} is out of date: run `make docs`"


@pytest.mark.parametrize("page", ["README.md", "docs/demo.md"])
def test_the_sizes_and_types_of_the_demos_quants_are_those_of_its_recipe(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    # The types of the smallest files depend on an importance matrix and on measurements.
    text = re.sub(r"storytellers-Q3_K_M(-size)?\.gguf\n.*", "", text)
    shown = re.findall(r"^ +([\d.]+ [MG]iB, [\d.]+ bits/weight: .*)$", text, re.MULTILINE)
    assert shown
    assert set(shown) <= planned_lines()
