"""Signals at any moment of llama.cpp's work: each is handled, and none inside a callback."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from franken_gguf.quantize.common.signals import ENDINGS, signals_held
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.interrupt import Stopped, ctrl_c_sets
from franken_gguf.runner.engine.probe import router_inputs
from franken_gguf.runner.sampling.settings import Sampling
from support.merges import make_dense, write_recipe
from support.models import smollm2

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals are Unix's")

COMMAND = str(Path(sys.executable).with_name("franken-gguf"))
PROMPT = list(range(300, 364))
SMALL = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0, n_outputs=len(PROMPT))
SIGNALS = (signal.SIGINT, *ENDINGS)
SOON = 30  # seconds after which a signal counts as lost


class Raised(KeyboardInterrupt):
    """What the handlers of these tests raise."""


@pytest.fixture(autouse=True)
def raising() -> Iterator[None]:
    """Handlers that raise, as the command line's do."""

    def heard(number: int, _: FrameType | None) -> None:
        raise Raised(number)

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupted(work: Callable[[], object], sent: int, delay: float) -> None:
    """Do `work` again and again; a signal ends that within `SOON`, with what its handler raises."""
    timer = threading.Timer(delay, os.kill, (os.getpid(), sent))
    with pytest.raises(Raised) as error:
        timer.start()
        ends = time.monotonic() + SOON
        while time.monotonic() < ends:
            work()
    timer.join()
    assert error.value.args == (sent,)


@pytest.mark.parametrize("listening", [False, True])
def test_signals_at_random_moments_of_an_evaluation_are_all_handled(
    listening: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    probe = router_inputs() if listening else None
    with Engine(read_header(smollm2()), SMALL, probe=probe) as engine:
        expected = engine.logits(PROMPT).copy()

        def work() -> None:
            engine.forget_from(0)
            engine.evaluate(PROMPT)

        moments = random.Random(1)
        for _ in range(12):
            interrupted(work, moments.choice(SIGNALS), moments.uniform(0.001, 0.2))
        # What was cut short left nothing behind.
        engine.forget_from(0)
        np.testing.assert_array_equal(engine.logits(PROMPT), expected)
    assert capfd.readouterr() == ("", "")


def test_signals_at_random_moments_of_a_load_are_all_handled(
    capfd: pytest.CaptureFixture[str],
) -> None:
    header, moments = read_header(smollm2()), random.Random(2)
    for _ in range(12):
        interrupted(
            lambda: Engine(header, SMALL, on_progress=lambda _: time.sleep(0.0001)).close(),
            moments.choice(SIGNALS),
            moments.uniform(0.001, 0.2),
        )
    assert capfd.readouterr() == ("", "")


def test_if_ctrl_c_only_stops_an_answer_other_signals_still_end_the_program() -> None:
    with Engine(read_header(smollm2()), SMALL) as engine, ctrl_c_sets(engine.stop):

        def answer() -> None:
            generation = engine.generate(PROMPT, Sampling(temperature=0), 8)
            list(generation)
            assert generation.finish == "length"
            engine.forget_from(0)

        interrupted(answer, signal.SIGTERM, 0.05)
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(Stopped):
            while True:
                engine.forget_from(0)
                engine.evaluate(PROMPT)
        timer.join()


@pytest.mark.parametrize(
    ("mode", "sent", "status"),
    [("hidden", "SIGINT", 130), ("hidden", "SIGTERM", 143), ("balanced", "SIGHUP", 129)],
)
def test_a_recipe_is_interrupted_while_its_base_model_runs(
    tmp_path: Path, mode: str, sent: str, status: int
) -> None:
    make_dense(tmp_path / "base", hidden=256, feed_forward=1024, layers=8)
    fox = "The quick brown fox jumps over the lazy dog. " * 8
    prompts = [[f"{fox}{expert}{number}" for number in range(200)] for expert in range(2)]
    experts = [{"source_model": "base", "positive_prompts": own} for own in prompts]
    recipe = write_recipe(tmp_path / "tales.yml", *experts, gate_mode=mode)
    before = sorted(tmp_path.iterdir())
    command = [COMMAND, "convert", str(recipe), "-q", "Q8_0", "-o", str(tmp_path / "out.gguf")]
    command += ["--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob(".franken-gguf-*/base.gguf")):
            time.sleep(0.01)
        time.sleep(random.Random(status).uniform(0, 0.5))
        process.send_signal(signal.Signals[sent])
        try:
            _, errors = process.communicate(timeout=SOON)
        finally:
            process.kill()
    assert process.returncode == status, errors
    assert errors == "running the base model in Q8_0 on 400 prompts\nInterrupted.\n"
    assert sorted(tmp_path.iterdir()) == before


def test_held_signals_are_all_delivered_at_the_end() -> None:
    heard, came = [], threading.Event()
    signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    with pytest.raises(Raised), signals_held(came):
        assert not came.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert came.wait(SOON)
        assert heard == []
    assert heard == [signal.SIGHUP]
    assert not came.is_set()


def test_after_a_hold_handlers_are_restored_and_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = [signal.getsignal(number) for number in SIGNALS]
    with signals_held(), signals_held():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_another_thread_may_hold_signals_too() -> None:
    done = []

    def work() -> None:
        with signals_held():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
