"""Replacing a file: all of the new content, or the old file untouched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from franken_gguf.quantize.common.files import replacing


@pytest.mark.parametrize("fsync", [False, True])
def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path: Path, fsync: bool) -> None:
    path = tmp_path / "tale.json"
    path.write_text("old")
    with replacing(path, fsync=fsync) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_removes_the_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "tale.json"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as part:
        part.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "tale.json"
    with replacing(path, mode=0o600) as part:
        assert part.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o600
