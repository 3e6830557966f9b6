"""Measurements on disk: read back as they were, safe from damaged files and full disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.target_size.measurements import Measurements, load, save
from support.disks import mounted

SOME = Measurements({"output.weight": {"Q4_K": 0.004, "Q8_0": 1e-5}}, {"output.weight": 0.11})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "some.json", SOME)
    assert load(tmp_path / "some.json") == SOME
    assert [path.name for path in tmp_path.iterdir()] == ["some.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"errors": {}}',
        b'{"errors": {"a": {"Q4_K": "x"}}, "divergences": {}}',
        b'{"errors": {}, "divergences": {"a": NaN}}',
        b'{"errors": {}, "divergences": {"a": true}}',
        b'{"errors": {"a": 1}, "divergences": {}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.json").write_bytes(content)
    assert load(tmp_path / "some.json") == Measurements()


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert load(tmp_path / "none.json") == Measurements()


def test_a_full_disk_keeps_what_was_measured_before(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as disk:
        save(disk / "some.json", SOME)
        large = Measurements({f"tensor {n}": {"Q4_K": 0.1} for n in range(9999)}, {})
        with pytest.raises(OutputError, match=r"some\.json: No space left on device; make room"):
            save(disk / "some.json", large)
        assert load(disk / "some.json") == SOME
        assert [path.name for path in disk.iterdir()] == ["some.json"]
