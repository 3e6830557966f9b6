"""The folder of interrupted trainings: what dead runs leave is deleted, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from franken_gguf.quantize.common.errors import OutputError
from franken_gguf.quantize.router_training.kept_training import FOLDER, KeptTraining, kept_training


def left(folder: Path) -> set[str]:
    return {path.name for path in (folder / FOLDER).glob("*")}


def leave(kept: KeptTraining) -> None:
    """What a run that is killed can leave."""
    for path in (kept.state, kept.state.with_name(f"{kept.state.name}.part"), kept.copy, kept.lock):
        path.touch()


def test_the_folder_is_deleted_after_success_and_keeps_the_state_after_an_error(
    tmp_path: Path,
) -> None:
    with kept_training(tmp_path, "a") as kept:
        leave(kept)
    assert not (tmp_path / FOLDER).exists()
    with pytest.raises(RuntimeError), kept_training(tmp_path, "a") as kept:
        leave(kept)
        raise RuntimeError
    assert left(tmp_path) == {"a.npz"}


def test_a_dead_runs_copy_is_deleted_and_its_state_and_a_live_runs_files_are_kept(
    tmp_path: Path,
) -> None:
    dead, live = (KeptTraining(tmp_path / FOLDER, key) for key in ("dead", "live"))
    dead.folder.mkdir()
    leave(dead)
    leave(live)
    with FileLock(live.lock):
        with kept_training(tmp_path, "new"):
            files = {"dead.npz", "live.npz", "live.npz.part", "live.gguf.part", "live.lock"}
            assert left(tmp_path) == files | {"new.lock"}
        with (
            pytest.raises(OutputError, match="another run is training this router; wait for it"),
            kept_training(tmp_path, "live"),
        ):
            pass
        assert left(tmp_path) == files


def test_only_the_states_that_were_used_last_are_kept(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    for number in range(7):
        state = KeptTraining(tmp_path / FOLDER, str(number)).state
        state.touch()
        os.utime(state, (number, number))
    with pytest.raises(RuntimeError), kept_training(tmp_path, "0"):
        raise RuntimeError
    assert left(tmp_path) == {"0.npz", "3.npz", "4.npz", "5.npz", "6.npz"}
