"""The whole pipeline: a source is read once, every output is quantized and written in that pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from franken_gguf.quantize.blocks.formats import NUMPY, Kernels
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.common.workers import in_order
from franken_gguf.quantize.output.jobs import Job, jobs
from franken_gguf.quantize.output.output import Output, refines
from franken_gguf.quantize.output.row_converter import Progress, RowConverter
from franken_gguf.quantize.output.verify import TensorCheck, refuse_unsound, verify
from franken_gguf.quantize.output.worker_memory import DEFAULT_MAX_MEMORY, Share, share_memory
from franken_gguf.quantize.output.writer import SAVE_SECONDS, PendingOutputs


@dataclass(frozen=True)
class Result:
    """What came of a conversion beside the files."""

    share: Share
    checks: dict[Path, list[TensorCheck]] = field(default_factory=dict)
    """By output, where they were asked for."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of wall time, by stage."""


def convert(
    source: Source,
    outputs: Sequence[Output],
    *,
    threads: int = 1,
    max_memory: int = DEFAULT_MAX_MEMORY,
    overwrite: bool = False,
    check: bool = False,
    kernels: Kernels = NUMPY,
    save_seconds: float = SAVE_SECONDS,
    report: Callable[[Progress], None] = lambda progress: None,
    report_check: Callable[[Output, Job], None] = lambda output, job: None,
    notify: Callable[[str], None] = lambda line: None,
) -> Result:
    """Write every output from one pass over `source`, on `threads` processes.

    With `check` the files are read back and compared with the source before they get their names.
    `kernels` quantize instead of our own functions. They must write the same bytes.
    What is written is saved, so that another run can resume from there, every `save_seconds` or
    more; with 0 after every job. `report` and `report_check` are called as jobs finish, in order;
    `notify` with a line where the work of an interrupted run is resumed. On any error no output is
    replaced. Raises a FrankenError.
    """
    share = share_memory(source.tensors, threads, max_memory, refining=any(map(refines, outputs)))
    result, lap = Result(share), _laps()
    with PendingOutputs(
        outputs, source, overwrite=overwrite, save_seconds=save_seconds, notify=notify
    ) as pending:
        work = RowConverter(source, outputs, pending.positions, kernels)
        since = min(pending.positions)
        for done in in_order(work, jobs(source.tensors, share.job_weights, since), share.workers):
            pending.settle(done.job.end)
            report(done)
        result.seconds["converting"] = lap()
        if check:
            for output in outputs:
                result.checks[output.path] = _check(source, output, pending, share, report_check)
            result.seconds["checking"] = lap()
        pending.commit()
    result.seconds["saving"] = lap()
    return result


def _check(
    source: Source,
    output: Output,
    pending: PendingOutputs,
    share: Share,
    report: Callable[[Output, Job], None],
) -> list[TensorCheck]:
    """Read an output back. Raises GGUFError, VerifyError if a tensor is too far from its source."""
    checks = verify(source, pending.files(output), share, partial(report, output))
    refuse_unsound(output.path, checks)
    return checks


def _laps() -> Callable[[], float]:
    """A function that returns the seconds since its last call, at first since now."""
    last = time.perf_counter()

    def lap() -> float:
        nonlocal last
        before, last = last, time.perf_counter()
        return last - before

    return lap
