"""kill -9 at any moment: the same command resumes, and in the end the bytes are the same.

First before each single step on the disk, in one process, then at random with worker processes.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from franken_gguf.quantize.common.errors import WorkerError
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.output.row_converter import Progress
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from support.checkpoints import make_checkpoint
from support.models import ROOT
from support.system_calls import IS_SUPPORTED, Step
from support.walk_child import WAYS

KILLS = 2
TYPES = ("Q8_0", "Q4_K_M")

# The pipeline alone, without the second that the command takes to start.
SCRIPT = """
import sys
from pathlib import Path
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset

if __name__ == "__main__":
    source = open_source(Path(sys.argv[1]))
    outputs = [
        plan_output(source, Path(sys.argv[2]) / f"{name}.gguf", find_preset(name))
        for name in sys.argv[4:]
    ]
    convert(source, outputs, threads=int(sys.argv[3]), max_memory=80 << 20)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of 22 million weights: a second or two of work."""
    folder = tmp_path_factory.mktemp("source")
    checkpoint = make_checkpoint(
        folder / "model", hidden=512, heads=8, kv_heads=4, feed_forward=1536, layers=2, dtype="F16"
    )
    model = open_source(checkpoint)
    convert(model, [plan_output(model, folder / "source.gguf", find_preset("F16"))])
    return folder / "source.gguf"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of 11 tensors, a job each."""
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint = make_checkpoint(
        folder / "model",
        layout="dense",
        hidden=32,
        heads=1,
        kv_heads=1,
        feed_forward=32,
        layers=1,
        tied=True,
        dtype="F16",
    )
    model = open_source(checkpoint)
    convert(model, [plan_output(model, folder / "source.gguf", find_preset("F16"))])
    return folder / "source.gguf"


@pytest.mark.skipif(not IS_SUPPORTED, reason="system calls are traced on Linux, x86-64, alone")
@pytest.mark.parametrize("way", WAYS)
def test_killed_before_each_step_on_the_disk_the_same_command_leaves_the_same_files(
    tiny: Path, way: str
) -> None:
    memory = Path("/dev/shm")  # where a sync takes no time
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        child = [sys.executable, "-m", "support.walk_child"]
        walk = subprocess.run(
            [*child, way, str(tiny), str(Path(folder, "out"))],
            cwd=ROOT / "tests",
            capture_output=True,
            text=True,
            check=False,
        )
    assert walk.returncode == 0, walk.stderr
    found = json.loads(walk.stdout)
    steps = [Step(*step) for step in found["steps"]]
    assert sum(found["ends"].values()) == len(steps)
    assert found["ends"]["resumed"] > len(steps) // 2
    calls = {step.call for step in steps}
    assert calls == {"mkdir", "open", "flock", "write", "truncate", "fsync", "rename", "unlink"}
    for number in range(len(WAYS[way])):
        check_order([step for step in steps if step.name in ("", *names_of(number, steps))])


def names_of(number: int, steps: list[Step]) -> set[str]:
    """The temporary files of output `number`."""
    return {step.name for step in steps if re.match(rf"{number}[.-]", step.name)}


def check_order(steps: list[Step]) -> None:
    """What a power cut may not undo is on the disk before what depends on it is changed."""

    def at(call: str, pattern: str) -> list[int]:
        return [n for n, s in enumerate(steps) if s.call == call and re.fullmatch(pattern, s.name)]

    def synced(pattern: str, after: int, before: int) -> bool:
        return any(after < n < before for n in at("fsync", pattern))

    journal, part = r"\d\.gguf\.journal", r"\d(-\d{5}-of-\d{5})?\.gguf\.part"
    (begun,) = at("rename", rf"{journal}\.part")
    assert synced(rf"{journal}\.part", at("write", rf"{journal}\.part")[-1], begun)
    assert synced("", begun, at("open", part)[0])
    renames, (deleted,) = at("rename", part), at("unlink", journal)
    for noted in at("write", journal):
        wrote = [n for n in at("write", part) if n < noted]
        for name in {steps[n].name for n in wrote}:
            last = max(n for n in wrote if steps[n].name == name)
            assert synced(re.escape(name), last, noted)
    assert synced(journal, at("write", journal)[-1], renames[0])
    assert synced("", renames[-1], deleted)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
@pytest.mark.parametrize("threads", [1, 2])
def test_killed_at_random_moments_the_files_are_those_of_an_undisturbed_run(
    source: Path, tmp_path: Path, threads: int
) -> None:
    script = tmp_path / "convert.py"
    script.write_text(SCRIPT)

    def start(out: Path) -> subprocess.Popen[str]:
        out.mkdir(exist_ok=True)
        command = [sys.executable, str(script), str(source), str(out), str(threads), *TYPES]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    started = time.monotonic()
    with start(tmp_path / "undisturbed") as process:
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    length = time.monotonic() - started
    expected = [(tmp_path / "undisturbed" / f"{name}.gguf").read_bytes() for name in TYPES]

    moments = random.Random(threads)
    kills = finished = 0
    while kills < KILLS or not finished:
        out = tmp_path / f"out{finished}"
        with start(out) as process:
            try:
                process.wait(moments.uniform(0, length))
                _, errors = process.communicate()
                assert process.returncode == 0, errors
            except subprocess.TimeoutExpired:
                kill(process)
                kills += 1
        # Also one that was killed on its very way out.
        if sorted(path.name for path in out.iterdir()) == sorted(f"{name}.gguf" for name in TYPES):
            assert [(out / f"{name}.gguf").read_bytes() for name in TYPES] == expected
            finished += 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
def test_a_killed_worker_is_reported_and_the_same_command_resumes(
    source: Path, tmp_path: Path
) -> None:
    model = open_source(source)
    output = plan_output(model, tmp_path / "out.gguf", find_preset("Q4_K_M"))
    jobs: list[Progress] = []

    def kill_a_worker(progress: Progress) -> None:
        jobs.append(progress)
        if len(jobs) == 2:
            workers = [
                child
                for child in psutil.Process().children()
                if "spawn_main" in " ".join(child.cmdline())
            ]
            assert len(workers) == 2
            workers[0].kill()

    with pytest.raises(WorkerError, match="a worker process was killed, most likely because"):
        convert(model, [output], threads=2, max_memory=70 << 20, report=kill_a_worker)
    said: list[str] = []
    convert(model, [output], threads=2, notify=said.append)
    assert "resuming at" in said[0]
    alone = plan_output(model, tmp_path / "alone.gguf", find_preset("Q4_K_M"))
    convert(model, [alone])
    assert output.path.read_bytes() == alone.path.read_bytes()


def kill(process: subprocess.Popen[str]) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    # Workers end with their parent: none may write to what another process goes on with.
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
