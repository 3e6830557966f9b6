"""The journal: what it says after anything that may have happened to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from franken_gguf.quantize.jobs import START
from franken_gguf.quantize.journal import Identity, Journal

IDENTITY = Identity("1.0", "source", "options", "command")


def written(path: Path) -> Path:
    journal = Journal(path, IDENTITY)
    journal.begin()
    for position in ((0, 128), (0, 256), (3, 4096)):
        journal.advance(position)
    journal.close()
    return path


def test_it_says_how_far_the_work_was(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j"), IDENTITY)
    assert (journal.position, journal.refusal) == ((3, 4096), "")
    assert journal.is_same_command


def test_where_there_is_none_the_work_is_at_its_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", IDENTITY)
    assert (journal.position, journal.refusal) == (START, "")
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(IDENTITY, source="x"), "the source has changed since the last run"),
        (replace(IDENTITY, options="x"), "the last run had other options"),
        (replace(IDENTITY, version="2"), "the last run was another version's"),
    ],
)
def test_it_is_refused_where_anything_differs_and_says_what(
    tmp_path: Path, other: Identity, why: str
) -> None:
    journal = Journal(written(tmp_path / "j"), other)
    assert (journal.position, journal.refusal) == (START, why)


def test_the_same_output_in_another_command_is_gone_on_with(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j"), replace(IDENTITY, command="x"))
    assert journal.position == (3, 4096)
    assert not journal.is_same_command


@given(st.integers(0, 400), st.binary(max_size=40))
def test_a_journal_cut_anywhere_with_anything_behind_it_never_says_more_than_was_done(
    length: int, rest: bytes
) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder) / "j")
        path.write_bytes(path.read_bytes()[:length] + rest)
        journal = Journal(path, IDENTITY)
        assert journal.position in (START, (0, 128), (0, 256), (3, 4096))


def test_what_follows_half_a_line_counts_again(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    path.write_bytes(path.read_bytes()[:-9])
    journal = Journal(path, IDENTITY)
    assert journal.position == (0, 256)
    journal.advance((5, 1))
    journal.close()
    assert Journal(path, IDENTITY).position == (5, 1)
