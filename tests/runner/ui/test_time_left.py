"""The time left of a conversion, with types that differ in cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.ui.time_left import TimeLeft
from support.checkpoints import make_checkpoint

SPEED = {"F32": 1e-7, "Q8_0": 1e-6, "Q4_K": 2e-5}
"""Seconds for a weight."""


def conversion(tmp_path: Path) -> tuple[TimeLeft, list[tuple[int, float]]]:
    """A conversion that began at 0; the weights of each tensor, and the seconds it will take."""
    source = open_source(make_checkpoint(tmp_path / "model"))
    output = plan_output(source, tmp_path / "a.gguf", find_preset("Q4_K_M"))
    work = []
    for tensor, target in zip(source.tensors, output.tensors, strict=True):
        weights = tensor.rows * tensor.cols
        work.append((weights, weights * SPEED.get(target.choice.type.name, 5e-6)))
    return TimeLeft(source, [output]), work


def test_it_is_unknown_before_the_first_job(tmp_path: Path) -> None:
    left, _ = conversion(tmp_path)
    assert left.seconds is None


def test_it_is_exact_once_every_kind_of_tensor_has_been_seen(tmp_path: Path) -> None:
    left, work = conversion(tmp_path)
    now = 0.0
    total = sum(seconds for _, seconds in work)
    for index, (weights, seconds) in enumerate(work):
        now += seconds
        left.add(index, weights, weights, seconds, now)
        if index > len(work) // 2:
            assert left.seconds == pytest.approx(total - now)
    assert left.seconds == 0


def test_two_workers_need_half_the_time(tmp_path: Path) -> None:
    left, work = conversion(tmp_path)
    now = 0.0
    for index, (weights, seconds) in enumerate(work[:-1]):
        now += seconds / 2
        left.add(index, weights, weights, seconds, now)
    assert left.seconds == pytest.approx(work[-1][1] / 2)


def test_what_an_earlier_run_did_counts_as_done(tmp_path: Path) -> None:
    left, work = conversion(tmp_path)
    last = len(work) - 1
    weights, seconds = work[last]
    left.add(last, weights, weights // 2, seconds / 2, seconds / 2)
    assert left.seconds == 0
