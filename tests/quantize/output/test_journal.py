"""The journal: what it says after anything that may have happened to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.output.jobs import START
from franken_gguf.quantize.output.journal import (
    Identity,
    Journal,
    is_journal,
    is_unfinished_journal,
)

IDENTITY = Identity("1.0", 64 * "5", 64 * "0")


def written(path: Path) -> Path:
    journal = Journal(path, IDENTITY)
    journal.begin()
    for position in ((0, 128), (0, 256), (3, 4096)):
        journal.advance(position)
    journal.close()
    return path


def test_a_journal_records_how_far_the_work_was(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j"), IDENTITY)
    assert (journal.position, journal.refusal) == ((3, 4096), "")
    assert not journal.complete


def test_without_a_journal_the_work_is_at_its_start(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", IDENTITY)
    assert (journal.position, journal.refusal) == (START, "")
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(IDENTITY, source="x"), "the source has changed since the last run"),
        (replace(IDENTITY, options="x"), "the last run had other options"),
        (replace(IDENTITY, version="2"), "the last run was by another version of franken-gguf"),
    ],
)
def test_a_journal_is_refused_if_anything_differs_and_the_reason_is_given(
    tmp_path: Path, other: Identity, why: str
) -> None:
    journal = Journal(written(tmp_path / "j"), other)
    assert (journal.position, journal.refusal) == (START, why)


def test_a_journal_records_the_command_whose_work_is_complete(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j"), IDENTITY)
    journal.note_complete("c0")
    assert Journal(journal.path, IDENTITY).complete == "c0"
    assert Journal(journal.path, replace(IDENTITY, source="x")).complete == ""
    journal.reset()
    again = Journal(journal.path, IDENTITY)
    assert (again.position, again.complete, again.refusal) == (START, "", "")
    assert is_journal(journal.path)


@settings(deadline=None)  # it syncs
@given(st.integers(0, 300), st.binary(max_size=40))
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


def first_line(path: Path) -> bytes:
    Journal(path, IDENTITY).begin()
    return path.read_bytes()


def test_a_journal_appears_whole_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    line = first_line(tmp_path / "j")
    assert is_journal(written(tmp_path / "j"))
    assert first_line(tmp_path / "j") == line
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_every_beginning_of_its_first_line_is_known_and_also_what_a_power_cut_makes_of_it(
    tmp_path: Path,
) -> None:
    line = first_line(tmp_path / "j")
    path = tmp_path / "j.part"
    for length in range(len(line) + 1):
        for zeros in (0, len(line) - length):
            path.write_bytes(line[:length] + bytes(zeros))
            assert is_unfinished_journal(path)
            assert is_journal(path) == (length == len(line))


@settings(deadline=None)  # it syncs
@given(st.integers(0, 11), st.integers(1, 255), st.binary(min_size=1, max_size=600))
def test_no_other_file_is_taken_for_a_journal(where: int, change: int, more: bytes) -> None:
    with TemporaryDirectory() as folder:
        line = first_line(Path(folder) / "j")
        path = Path(folder) / "other"
        path.write_bytes(line[:where] + bytes([line[where] ^ change]) + line[where + 1 :])
        assert not is_journal(path)
        assert not is_unfinished_journal(path)
        path.write_bytes(line + b"x" + more)
        assert not is_unfinished_journal(path)


def test_a_journal_that_is_gone_is_not_made_again_by_a_line(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path / "j"), IDENTITY)
    journal.delete()
    with pytest.raises(FileNotFoundError):
        journal.advance((5, 1))
    assert not journal.exists()
