"""Writes the outputs of `franken-gguf convert`, with progress on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.console import Console

from franken_gguf.quantize import convert as pipeline
from franken_gguf.quantize.blocks.formats import Kernels
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.output.output import Output
from franken_gguf.quantize.output.row_converter import Seconds
from franken_gguf.runner.ui.convert_screen import say
from franken_gguf.runner.ui.progress_bars import conversion_progress
from franken_gguf.runner.ui.progress_stats import ProgressStats


def converted(
    model: Source,
    outputs: Sequence[Output],
    kernels: Kernels,
    notices: Console,
    *,
    threads: int,
    max_memory: int,
    overwrite: bool,
    verify: bool,
) -> tuple[pipeline.Result, Seconds]:
    """The result, and the workers' time by step. After an interruption, says how to resume."""
    stats = ProgressStats(model, outputs)
    try:
        with conversion_progress(notices, stats) as report:
            result = pipeline.convert(
                model,
                outputs,
                threads=threads,
                max_memory=max_memory,
                overwrite=overwrite,
                check=verify,
                kernels=kernels,
                report=report,
                report_check=stats.compare,
                notify=partial(say, notices),
            )
    except KeyboardInterrupt as interrupt:
        # Before the first job is done, the share is unknown, that of a resumed run too.
        where = f" at {100 * stats.weights // stats.total} %" if stats.weights else ""
        interrupt.args = (f"Interrupted{where}; run the same command to resume.",)
        raise
    return result, stats.seconds
