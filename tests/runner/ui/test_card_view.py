"""A card on the screen: its picture where there are colours, its words everywhere."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from franken_gguf.runner.story.card import read_card
from franken_gguf.runner.story.lorebook import read_lorebook
from franken_gguf.runner.ui.card_view import card_view, thumbnail
from support.cards import SIGNATURE, V3, chunk, png, text_chunk
from support.models import ROOT

EXAMPLES = ROOT / "examples" / "story"
BLOCK = "\N{UPPER HALF BLOCK}"


def shown(path: Path, width: int = 100, **settings: Any) -> str:
    file = io.StringIO()
    options: dict[str, Any] = {"color_system": "truecolor", "force_terminal": True, **settings}
    console = Console(file=file, width=width, _environ={}, **options)
    console.print(card_view(read_card(path), console))
    return file.getvalue()


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "mara.png"
    path.write_bytes(png(text_chunk("ccv3", V3)))
    return path


def test_a_picture_is_drawn_two_pixels_to_a_character(card: Path) -> None:
    red = f"\x1b[38;2;192;32;32;48;2;192;32;32m{BLOCK}\x1b[0m"
    assert shown(card).count(red * 4) == 3
    assert "Mara, called Mags" in shown(card)


@pytest.mark.parametrize(
    "settings", [{"no_color": True}, {"force_terminal": False}, {"color_system": "standard"}]
)
def test_without_colours_there_are_words_alone(card: Path, settings: dict[str, Any]) -> None:
    text = shown(card, **settings)
    assert BLOCK not in text
    assert "V3 card, version 1.1, by the tests" in text


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    text = shown(EXAMPLES / "mara.png", width, color_system=None)
    assert max(map(len, text.splitlines())) <= width


def test_an_invalid_picture_is_left_out(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    huge = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"x"))
    whole = png()
    for number, data in enumerate(
        (b"", SIGNATURE, huge, whole[:40], whole.replace(b"IDAT", b"IDAX"), b"{}")
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        assert thumbnail(path, 32) is None, number
    assert thumbnail(tmp_path / "none.png", 32) is None


def test_control_characters_and_markup_of_a_card_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"name": "[red]A\x1b[2J", "description": "[bold]x\u202e"}))
    text = shown(path, no_color=True)
    assert "[red]A[2J" in text
    assert "[bold]x\\u202e" in text
    assert "\x1b[2J" not in text


def test_the_example_is_whole_in_both_its_files_and_goes_with_its_lorebook() -> None:
    card = read_card(EXAMPLES / "mara.png")
    assert card == read_card(EXAMPLES / "mara.json")
    book = read_lorebook(EXAMPLES / "skerry-rock.json")
    assert (card.remarks, book.remarks, len(book.entries)) == ((), (), 6)
