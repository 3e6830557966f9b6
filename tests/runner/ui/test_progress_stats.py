"""The progress figures of a conversion, and its estimate beforehand."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output import estimate as estimate_module
from franken_gguf.quantize.output.estimate import estimate
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.output.row_converter import Progress
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.terminal.text import duration
from franken_gguf.runner.ui.progress_stats import ProgressStats, Speed
from support.checkpoints import make_checkpoint


def plan(tmp_path: Path) -> tuple[Source, list[Output]]:
    source = open_source(make_checkpoint(tmp_path / "model"))
    names = ("Q8_0", "F32")
    return source, [
        plan_output(source, tmp_path / f"{name}.gguf", find_preset(name)) for name in names
    ]


def test_at_the_end_every_weight_is_done_and_every_byte_written(tmp_path: Path) -> None:
    source, outputs = plan(tmp_path)
    meter = ProgressStats(source, outputs)
    assert (meter.weights, meter.speed, meter.seconds_left) == (0, Speed(), None)
    convert(source, outputs, report=meter.add)
    assert meter.weights == meter.total
    assert meter.written == [output.path.stat().st_size for output in outputs]
    assert meter.tensor_number == meter.tensors
    assert meter.seconds_left == 0
    assert all(seconds > 0 for seconds in meter.seconds)


def test_speed_is_work_done_over_elapsed_time(tmp_path: Path) -> None:
    source, outputs = plan(tmp_path)
    done: list[Progress] = []
    convert(source, outputs, report=done.append)
    now = [0.0]
    meter = ProgressStats(source, outputs, clock=lambda: now[0])
    for progress in done[:4]:
        now[0] += 0.5
        meter.add(progress)
    weights = sum(progress.weights for progress in done[:4])
    assert meter.weights == weights
    assert meter.speed == Speed(
        weights / 2,
        sum(progress.bytes_read for progress in done[:4]) / 2,
        sum(sum(progress.bytes_written) for progress in done[:4]) / 2,
    )


def test_old_samples_are_dropped(tmp_path: Path) -> None:
    source, outputs = plan(tmp_path)
    done: list[Progress] = []
    convert(source, outputs, report=done.append)
    now = [0.0]
    meter = ProgressStats(source, outputs, clock=lambda: now[0])
    for progress in done[:3]:
        now[0] += 100
        meter.add(progress)
    assert meter.speed.weights == done[2].weights / 100


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (67, "1:07"), (754, "12:34"), (3723, "1:02:03")]
)
def test_durations_are_read_off_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_estimate_covers_every_output_and_its_time_halves_with_twice_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that advances one second at each look: every sample takes one second.
    monkeypatch.setattr(estimate_module, "time", SimpleNamespace(perf_counter=count().__next__))
    source, outputs = plan(tmp_path)
    one, two = (estimate(source, outputs, threads, 1 << 30) for threads in (1, 2))
    assert one.disk_bytes == sum(output.nbytes for output in outputs)
    assert (one.workers, two.workers) == (1, 2)
    assert two.memory_bytes == 2 * one.memory_bytes
    assert two.seconds == one.seconds / 2 > 0
