"""What can go wrong in a conversion: one line says so, nothing is lost, and a rerun resumes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from franken_gguf.quantize.common.errors import (
    CheckpointError,
    OutputError,
    ReadError,
)
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.output.row_converter import Progress
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from support.interrupted import TYPES, Interrupted, all_say, interrupt, names, planned, run

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))


def test_an_interrupted_run_resumes_and_gives_the_same_bytes(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    assert names(out) == sorted(
        f"{name}.gguf.{kind}" for name in TYPES for kind in ("part", "journal")
    )
    files, notices = run(checkpoint, out)
    assert files == undisturbed
    assert all_say("resuming at", notices)
    assert names(out) == sorted(f"{name}.gguf" for name in TYPES)


@pytest.mark.parametrize("kind", ["part", "lock", "journal"])
@pytest.mark.parametrize("form", ["file", "folder", "link"])
def test_a_users_own_file_under_a_temporary_name_is_left_alone(
    checkpoint: Path, tmp_path: Path, kind: str, form: str
) -> None:
    """Browsers, too, call what is not yet whole NAME.part."""
    out = tmp_path / "out"
    out.mkdir()
    mine = out / f"Q4_0.gguf.{kind}"
    letter = {"file": mine, "folder": mine / "letter", "link": tmp_path / "letter"}[form]
    letter.parent.mkdir(exist_ok=True)
    letter.write_text("dear")
    if form == "link":
        mine.symlink_to(letter)
    with pytest.raises(
        OutputError, match=rf"Q4_0\.gguf\.{kind}: exists but was not created by franken-gguf"
    ):
        run(checkpoint, out, overwrite=True)
    assert letter.read_text() == "dear"
    assert names(out) == [mine.name]


def test_what_was_done_is_not_done_again(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    source, outputs = planned(checkpoint, out)
    again: list[Progress] = []
    convert(source, outputs, report=again.append)
    whole: list[Progress] = []
    convert(source, outputs, report=whole.append, overwrite=True)
    assert len(again) == len(whole) - 9


def test_one_output_of_an_interrupted_ladder_may_be_finished_alone(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    source, (first, second) = planned(checkpoint, out)
    notices: list[str] = []
    convert(source, [second], notify=notices.append)
    assert second.path.read_bytes() == undisturbed[1]
    assert "resuming at" in notices[0]
    convert(source, [first])
    assert first.path.read_bytes() == undisturbed[0]


def test_a_changed_source_is_noticed_and_the_work_starts_over(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    shard = sorted(checkpoint.glob("*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    files, notices = run(checkpoint, out)
    assert all_say("the source has changed since the last run; starting over", notices)
    assert files == run(checkpoint, tmp_path / "fresh")[0]


def test_other_options_are_noticed_and_the_work_starts_over(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    source = open_source(checkpoint)
    output = plan_output(source, out / "Q8_0.gguf", find_preset("Q5_0"))
    notices: list[str] = []
    convert(source, [output], notify=notices.append)
    assert notices == [f"{output.path}: the last run had other options; starting over"]
    fresh = plan_output(source, tmp_path / "fresh.gguf", find_preset("Q5_0"))
    convert(source, [fresh])
    assert output.path.read_bytes() == fresh.path.read_bytes()


def test_a_part_that_is_gone_is_made_again(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    (out / "Q8_0.gguf.part").unlink()
    files, notices = run(checkpoint, out)
    assert files == undisturbed
    assert len(notices) == 1


def test_one_output_that_ended_alone_does_not_pass_for_the_end_of_the_others(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt)
    source, outputs = planned(checkpoint, out)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: interrupt())
        with pytest.raises(Interrupted):
            convert(source, outputs[:1])
    assert run(checkpoint, out)[0] == undisturbed


def test_a_save_that_is_still_under_way_when_the_work_ends_leaves_nothing_behind(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk so slow that one sync, made beside the work, takes longer than all the rest."""
    out, slow = tmp_path / "out", threading.Event()
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        if threading.current_thread() is not threading.main_thread() and not slow.is_set():
            slow.set()
            time.sleep(0.5)

    monkeypatch.setattr(os, "fsync", fsync)
    source, outputs = planned(checkpoint, out)
    convert(source, outputs, report=lambda progress: time.sleep(0 if slow.is_set() else 0.1))
    assert slow.is_set()
    assert names(out) == sorted(f"{name}.gguf" for name in TYPES)
    assert [output.path.read_bytes() for output in outputs] == undisturbed


def test_an_older_output_survives_an_interrupted_run_that_replaces_it(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "Q8_0.gguf").write_bytes(b"precious")
    with pytest.raises(Interrupted):
        run(checkpoint, out, at=9, do=interrupt, overwrite=True)
    assert (out / "Q8_0.gguf").read_bytes() == b"precious"
    with pytest.raises(OutputError, match=r"exists already; add --overwrite"):
        run(checkpoint, out)
    assert run(checkpoint, out, overwrite=True)[0] == undisturbed


def touch_weights(checkpoint: Path) -> None:
    shard = sorted(checkpoint.glob("*.safetensors"))[-1]
    os.utime(shard, ns=(0, 0))


def cut_weights(checkpoint: Path) -> None:
    shard = sorted(checkpoint.glob("*.safetensors"))[-1]
    os.truncate(shard, shard.stat().st_size // 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [(touch_weights, "changed while it was read"), (cut_weights, "ends at byte")],
)
def test_a_source_that_changes_meanwhile_is_named_and_nothing_is_replaced(
    checkpoint: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match=message) as caught:
        run(checkpoint, out, at=3, do=lambda: change(checkpoint))
    assert ".safetensors" in str(caught.value)
    assert names(out) == []


def test_work_resumes_when_a_source_that_vanished_comes_back(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out, away = tmp_path / "out", tmp_path / "away"
    with pytest.raises(ReadError, match=r"safetensors: reading '.*': No such file or directory"):
        run(checkpoint, out, at=3, do=lambda: shutil.move(checkpoint, away))
    shutil.move(away, checkpoint)
    files, notices = run(checkpoint, out)
    assert files == undisturbed
    assert all_say("resuming at", notices)


def test_a_second_conversion_to_the_same_output_is_refused(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    second: list[subprocess.CompletedProcess[str]] = []

    def start_another() -> None:
        command = [COMMAND, "convert", str(checkpoint), "-q", "Q8_0", "--overwrite"]
        command += ["-o", str(out / "Q8_0.gguf")]
        second.append(subprocess.run(command, capture_output=True, text=True, check=False))

    files, _ = run(checkpoint, out, at=3, do=start_another)
    assert files == undisturbed
    assert second[0].returncode == 1
    assert "Q8_0.gguf: another convert is writing it" in second[0].stderr
    assert second[0].stderr.count("\n") == 1


def test_more_threads_than_cores_and_several_processes_change_no_byte(
    checkpoint: Path, undisturbed: list[bytes], tmp_path: Path
) -> None:
    assert run(checkpoint, tmp_path / "out", threads=(os.cpu_count() or 1) + 3)[0] == undisturbed
