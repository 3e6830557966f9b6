"""Where the merge command writes: what it finds there stays, and nothing half done does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from click.testing import CliRunner, Result

from franken_gguf.quantize.common.errors import CheckpointError, OutputError
from franken_gguf.quantize.merge import staging_dir as pending_folder_module
from franken_gguf.quantize.merge.merged_checkpoint import plan_checkpoint, write_checkpoint
from franken_gguf.quantize.merge.merged_source import merge_source
from franken_gguf.quantize.merge.staging_dir import HIDDEN, pending_folder
from franken_gguf.runner.cli import main
from support.merges import make_dense, write_recipe

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))
FILES = ["README.md", "config.json", "mergekit_moe_config.yml", "model.safetensors"]
FILES += ["tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_dense(folder / "base")
    return write_recipe(folder / "tales.yml", *[{"source_model": "base"}] * 2)


def merge(*words: object) -> Result:
    return CliRunner().invoke(main, ["merge", *map(str, words)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_stands_beside_the_folder_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "poetry.part").mkdir()
    (tmp_path / "poetry.part" / "letter.txt").write_text("dear")
    (tmp_path / "poetry.lock").write_text("[[package]]")
    assert merge(recipe, tmp_path / "poetry").exit_code == 0
    assert names(tmp_path) == ["poetry", "poetry.lock", "poetry.part"]
    assert names(tmp_path / "poetry") == FILES
    assert (tmp_path / "poetry.lock").read_text() == "[[package]]"
    assert (tmp_path / "poetry.part" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("place", ["letter.txt", f"{HIDDEN}/letter.txt", HIDDEN])
def test_a_folder_that_holds_something_is_left_alone(
    recipe: Path, tmp_path: Path, place: str
) -> None:
    letter = tmp_path / "taken" / place
    letter.parent.mkdir(parents=True)
    letter.write_text("dear")
    result = merge(recipe, tmp_path / "taken")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {tmp_path / 'taken'}: exists already; choose another name, or remove it\n",
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [letter]
    assert letter.read_text() == "dear"


def test_a_folder_that_a_link_of_our_hidden_name_leads_to_is_left_alone(
    recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "letters" / "files").mkdir(parents=True)
    (tmp_path / "letters" / "lock").write_text("dear")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / HIDDEN).symlink_to(tmp_path / "letters")
    assert merge(recipe, tmp_path / "out").exit_code == 1
    assert names(tmp_path / "letters") == ["files", "lock"]


def test_a_folder_is_made_in_one_that_is_there(recipe: Path, tmp_path: Path) -> None:
    result = merge(recipe, tmp_path / "no" / "where")
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {tmp_path / 'no'}: is not a writable folder; create it or choose another\n",
    )
    assert names(tmp_path) == []


def test_a_link_that_leads_to_itself_is_refused_in_one_line(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    result = merge(recipe, tmp_path / "loop")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert str(tmp_path / "loop") in result.stderr


def test_an_empty_folder_is_filled_and_stays_the_same_folder(recipe: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    number = here.stat().st_ino
    done = subprocess.run([COMMAND, "merge", str(recipe), "."], cwd=here, check=False)
    assert done.returncode == 0
    assert here.stat().st_ino == number
    assert names(here) == FILES
    assert names(tmp_path) == ["here"]


def test_a_mount_point_is_filled_and_asked_for_its_own_room(recipe: Path, tmp_path: Path) -> None:
    script = """
        set -e
        mount -t tmpfs -o size=4m none "$1"
        "$2" merge "$3" "$1"
        ls -A "$1"
        weights=$(($(stat -c %s "$1/model.safetensors") / 1024 + 4))
        umount "$1"
        for size in 64 $weights; do
            mount -t tmpfs -o size=${size}k none "$1"
            ! "$2" merge "$3" "$1"
            ls -A "$1"
            umount "$1"
        done
    """
    words = ["unshare", "--mount", "--map-root-user", "sh"]
    volume = tmp_path / "volume"
    volume.mkdir()
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*words, "-c", 'mount -t tmpfs none "$0"', str(volume)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("this machine lets no user mount a file system")
    done = subprocess.run(
        [*words, "-c", script, "sh", str(volume), COMMAND, str(recipe)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    assert done.stdout.split() == [str(volume), *FILES]
    too_small, full = done.stderr.splitlines()
    assert too_small.startswith(f"Error: {volume}: ")
    assert "bytes needed, 65,536 free; make room" in too_small
    assert full.startswith(f"Error: {volume / HIDDEN}")
    assert "No space left on device; nothing was left behind" in full
    assert done.returncode == 0


def test_of_many_that_fill_one_folder_one_succeeds_and_the_others_report_why(
    tmp_path: Path,
) -> None:
    at_once = 4

    def fill(folder: Path) -> str:
        start.wait()
        try:
            with pending_folder(folder, 0) as files:
                (files / "model.safetensors").touch()
                (files / "config.json").touch()
        except OutputError as error:
            return str(error)
        return "done"

    with ThreadPoolExecutor(at_once) as pool:
        for number in range(100):
            start = Barrier(at_once)
            folder = tmp_path / str(number)
            said = sorted(pool.map(fill, [folder] * at_once))
            assert said.count("done") == 1
            assert set(said) <= {
                "done",
                f"{folder}: another merge is writing to it; wait until it ends",
                f"{folder}: exists already; choose another name, or remove it",
            }
            assert names(folder) == ["config.json", "model.safetensors"]


def test_what_comes_meanwhile_stays_and_nothing_else_does(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with (
        pytest.raises(OutputError, match=r"out: exists already"),
        pending_folder(folder, 0) as files,
    ):
        (files / "config.json").write_text("ours")
        (folder / "config.json").write_text("theirs")
    assert names(folder) == ["config.json"]
    assert (folder / "config.json").read_text() == "theirs"


def test_files_that_cannot_all_be_moved_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"

    def sync(_: Path) -> None:
        (folder / "letter.txt").write_text("dear")
        raise KeyboardInterrupt

    monkeypatch.setattr(pending_folder_module, "sync_folder", sync)
    with pytest.raises(KeyboardInterrupt), pending_folder(folder, 0) as files:
        (files / "config.json").write_text("ours")
        (files / "templates").mkdir()
    assert names(folder) == ["letter.txt"]


def test_a_source_that_changes_meanwhile_leaves_nothing(recipe: Path, tmp_path: Path) -> None:
    source = merge_source(recipe)
    (recipe.parent / "base" / "model.safetensors").touch()
    with (
        pytest.raises(CheckpointError, match=r"base/model\.safetensors: changed while it was"),
        pending_folder(tmp_path / "out", 0) as files,
    ):
        write_checkpoint(plan_checkpoint(source, "out", "fused"), files)
    assert names(tmp_path) == []


def killed_while_writing(tmp_path: Path, number: signal.Signals) -> tuple[int, str]:
    make_dense(tmp_path / "base", hidden=512, feed_forward=4096, layers=4)
    experts = [{"source_model": "base", "noise_scale": 0.1}] * 32
    recipe = write_recipe(tmp_path / "tales.yml", *experts, dtype="float32")
    command = [COMMAND, "merge", str(recipe), str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        part = tmp_path / "out" / HIDDEN / "files" / "model.safetensors"
        while process.poll() is None and not (part.exists() and part.stat().st_size > 1 << 20):
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate()
    return process.returncode, errors


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
def test_what_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    assert killed_while_writing(tmp_path, signal.SIGINT) == (130, "Interrupted.\n")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
def test_what_a_killed_run_left_the_next_one_deletes(recipe: Path, tmp_path: Path) -> None:
    assert killed_while_writing(tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    assert names(tmp_path / "out") == [HIDDEN]
    assert merge(recipe, tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == FILES
