"""Conversions to a disk that fills up, is another one, or may only be read."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import FrankenError, OutputError
from support.disks import mounted
from support.interrupted import Interrupted, all_say, interrupt, run


def test_a_disk_that_fills_up_is_reported_and_the_work_resumes_once_there_is_room(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    needed = sum(map(len, undisturbed))
    with mounted(tmp_path / "disk", f"size={needed + (2 << 20)}") as disk:
        hog = disk / "hog"

        def fill() -> None:
            with suppress(OSError), hog.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        with pytest.raises(OutputError, match="No space left on device; nothing was replaced"):
            run(checkpoint, disk / "out", at=9, do=fill)
        with pytest.raises(OutputError, match=r"bytes needed, [\d,]+ free; make room"):
            run(checkpoint, disk / "out")
        hog.unlink()
        files, notices = run(checkpoint, disk / "out")
    assert files == undisturbed
    assert all_say("resuming at", notices)


def test_outputs_may_lie_on_another_disk_than_everything_else(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "size=64m") as disk:
        with pytest.raises(Interrupted):
            run(checkpoint, disk / "out", at=9, do=interrupt)
        assert run(checkpoint, disk / "out")[0] == undisturbed


def test_a_target_that_cannot_be_written_is_reported_before_any_work(
    checkpoint: Path, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise AssertionError

    with mounted(tmp_path / "disk", "size=64m") as disk:
        (disk / "out").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(FrankenError, match=r"cannot be written to; choose another with -o"):
            run(checkpoint, disk / "out", at=1, do=refuse)
