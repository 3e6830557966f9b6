"""kill -9 at any moment: the same command goes on, and in the end the bytes are the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from checkpoints import make_checkpoint

from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.errors import WorkerError
from franken_gguf.quantize.output import plan_output
from franken_gguf.quantize.presets import find_preset
from franken_gguf.quantize.rows import Progress
from franken_gguf.quantize.source import open_source

KILLS = 50
TYPES = ("Q8_0", "Q4_K_M")

# The pipeline alone, without the second that the command takes to start.
SCRIPT = """
import sys
from pathlib import Path
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.errors import WorkerError
from franken_gguf.quantize.output import plan_output
from franken_gguf.quantize.presets import find_preset
from franken_gguf.quantize.rows import Progress
from franken_gguf.quantize.source import open_source

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


@pytest.mark.skipif(sys.platform == "win32", reason="signals are Unix's")
@pytest.mark.parametrize("threads", [1, 2])
def test_killed_at_fifty_moments_the_files_are_those_of_an_undisturbed_run(
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
    while kills < KILLS // 2 or not finished:
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
def test_a_worker_that_is_killed_is_said_and_the_same_command_goes_on(
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
    convert(model, [output], threads=2, say=said.append)
    assert "going on from" in said[0]
    alone = plan_output(model, tmp_path / "alone.gguf", find_preset("Q4_K_M"))
    convert(model, [alone])
    assert output.path.read_bytes() == alone.path.read_bytes()


def kill(process: subprocess.Popen[str]) -> None:
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    # Workers end with their parent: none may write to what another process goes on with.
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
