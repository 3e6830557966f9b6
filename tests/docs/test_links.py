"""Links, anchors and file names in the Markdown pages lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support.models import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")])
BLOCK = re.compile(r"^(?:    .*|```[\s\S]*?```)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:quantize|runner|tests|tools|benchmarks|examples|docs)/[\w./-]*)`")
PLACEHOLDER = "VERB"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert not [target for target in links(page) if not is_there(page, target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = [name for name in FILE.findall(prose(page)) if PLACEHOLDER not in name]
    assert not [name for name in named if not (ROOT / name).exists()]


def test_links_are_found_and_a_wrong_anchor_is_noticed() -> None:
    assert "docs/convert.md" in links(ROOT / "README.md")
    assert is_there(ROOT / "README.md", "docs/chat.md#if-llamacpp-crashes")
    assert not is_there(ROOT / "README.md", "docs/chat.md#if-llamacpp-crashed")


def links(page: Path) -> list[str]:
    """The targets of a page's links within the repository."""
    return [target for target in LINK.findall(prose(page)) if not re.match("[a-z]+:", target)]


def is_there(page: Path, target: str) -> bool:
    """Whether the file that a link names exists, and has the heading that its anchor names."""
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    return file.exists() and (not anchor or anchor in anchors(file))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the headings of a page."""
    return frozenset(_anchors(prose(page)))


def _anchors(text: str) -> Iterator[str]:
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def prose(page: Path) -> str:
    """A page without its blocks of code and output."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))
