"""Conversions that something happens to: run one, and do something after one of its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import Output, plan_output
from franken_gguf.quantize.output.row_converter import Progress
from franken_gguf.quantize.tensor_types.type_presets import find_preset

TYPES = ("Q8_0", "Q4_0")


def planned(checkpoint: Path, out: Path) -> tuple[Source, list[Output]]:
    out.mkdir(exist_ok=True)
    source = open_source(checkpoint)
    outputs = [plan_output(source, out / f"{name}.gguf", find_preset(name)) for name in TYPES]
    return source, outputs


def run(
    checkpoint: Path,
    out: Path,
    *,
    at: int = -1,
    do: Callable[[], object] = lambda: None,
    threads: int = 1,
    overwrite: bool = False,
) -> tuple[list[bytes], list[str]]:
    """Convert, and `do` something after the job with the number `at`: (files, notices)."""
    source, outputs = planned(checkpoint, out)
    said: list[str] = []
    jobs: list[Progress] = []

    def report(progress: Progress) -> None:
        jobs.append(progress)
        if len(jobs) == at:
            do()

    convert(
        source, outputs, threads=threads, overwrite=overwrite, report=report, notify=said.append
    )
    assert at <= len(jobs)
    return [output.path.read_bytes() for output in outputs], said


def all_say(text: str, notices: list[str]) -> bool:
    """Whether there is one notice for each output, and `text` in each."""
    return [text in notice for notice in notices] == [True] * len(TYPES)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Interrupted(KeyboardInterrupt):
    pass


def interrupt() -> None:
    raise Interrupted
