"""The demo's last screen: two answers that fit the terminal and cannot steer it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from run_demo import Answer, show


def screen(folder: Path, width: int, *texts: str, is_cut: bool = False) -> list[str]:
    answers = []
    for text, kind in zip(texts, ("Q8_0", "Q4_0"), strict=False):
        file = folder / f"model-{kind}.gguf"
        file.write_bytes(bytes(3 * 1024))
        answers.append(Answer(file, text, is_cut, 12.34))
    console = Console(width=width, file=io.StringIO())
    show(console, answers)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_answers_stand_side_by_side_where_there_is_room(tmp_path: Path) -> None:
    lines = screen(tmp_path, 120, "yes " * 40, "no")
    assert any("yes" in line and "no" in line for line in lines)
    assert all(len(line) <= 120 for line in lines)


def test_answers_stand_one_above_the_other_on_a_narrow_screen(tmp_path: Path) -> None:
    lines = screen(tmp_path, 60, "yes " * 40, "no")
    assert not any("yes" in line and "no" in line for line in lines)
    assert all(len(line) <= 60 for line in lines)


@pytest.mark.parametrize("width", [60, 120])
def test_each_answer_carries_its_type_size_and_speed(tmp_path: Path, width: int) -> None:
    text = "\n".join(screen(tmp_path, width, "yes", "no"))
    for words in ("Q8_0", "Q4_0", "3.0 KiB, 12.3 tokens/s"):
        assert words in text


def test_an_answer_that_was_cut_says_so(tmp_path: Path) -> None:
    assert "and then ..." in "\n".join(screen(tmp_path, 60, "and then", is_cut=True))


def test_markup_and_control_characters_in_an_answer_are_shown_as_text(tmp_path: Path) -> None:
    text = "\n".join(screen(tmp_path, 60, "[red]a[/] \x1b[2J"))
    assert "[red]a[/]" in text
    assert "\x1b" not in text
