"""How quantizing moves a mixture's answers: the study of docs/eternal-life.md.

Run: python tools/eternal_life.py [--minutes N]
Does what is missing in docs/eternal-life.json, the most important first, and rewrites the page's
tables and plot; with --minutes 0 only that. Ctrl-C loses at most the current step; the same command
resumes. The mixtures, their importance matrices and rounded blocks are kept in WORK, about 10 GB.

No file is written for a cell: its weights, rounded to its types, replace those of the running F16
model, whose maths is therefore that of F16; the cells "file" compare that with real files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from make_dense_model import dense_checkpoint

from franken_gguf.quantize.common.errors import FrankenError
from franken_gguf.quantize.common.files import replacing
from lean_study.cells import FILE, LEANS, MODELS, TEXT, Cell, Step, missing
from lean_study.page import write_page
from lean_study.rounding import Weights
from lean_study.running import Running

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "eternal-life.json"
CHUNKS = 24
"""Of calibration text, for the importance matrices."""


def main() -> None:
    """Measure until there is no more time or nothing is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--model", choices=MODELS, help="measure this mixture alone")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "eternal-life")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.minutes:
        write_page(read_results(arguments.results))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(arguments.work / ".lock", timeout=0):
            study(arguments)
    except Timeout:
        sys.exit(f"{arguments.work}: the study is running already; wait for it or stop it")
    except FrankenError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("stopped; the same command resumes")


def study(arguments: argparse.Namespace) -> None:
    """Do the missing steps, one mixture after the other, then write the page."""
    results = read_results(arguments.results)
    deadline = time.monotonic() + 60 * arguments.minutes
    todo = missing(results, arguments.model)
    try:
        for model, steps in groupby(todo, key=lambda step: step[0].model):
            if time.monotonic() < deadline:
                measure(model, list(steps), results, arguments.work, arguments.results, deadline)
    finally:
        write_page(results)


def measure(
    model: str, steps: list[Step], results: dict[str, Any], work: Path, file: Path, deadline: float
) -> None:
    """Do the steps of one mixture until the deadline, saving the results after each."""
    weights = prepared(model, work)
    with Running(weights.path, work) as base:
        for cell, some in groupby(steps, key=lambda step: step[0]):
            if time.monotonic() > deadline:
                return
            with as_cell(cell, base, weights, work) as running:
                for _, name in some:
                    if time.monotonic() > deadline:
                        return
                    started = time.process_time()
                    found = done(running, name)
                    results.setdefault(cell.key, described(cell, weights))[name] = found
                    save(results, file)
                    print(f"{cell.key}: {name}, {time.process_time() - started:.0f} s", flush=True)


@contextmanager
def as_cell(cell: Cell, base: Running, weights: Weights, work: Path) -> Iterator[Running]:
    """The running mixture with the cell's weights, or the cell's real file."""
    if cell.variant == FILE:
        with Running(real(cell, weights, work), work, base) as running:
            yield running
    else:
        base.become(cell, weights)
        yield base


def done(running: Running, name: str) -> dict[str, Any]:
    """The result of a step."""
    fixed: dict[str, Callable[[], dict[str, Any]]] = {TEXT: running.text, LEANS: running.leans}
    if name in fixed:
        return fixed[name]()
    question, batch = name.rsplit(" ", 1)
    return running.samples(question, int(batch))


def described(cell: Cell, weights: Weights) -> dict[str, Any]:
    """What the file of a cell takes."""
    output = weights.output(cell)
    return {"bytes": output.nbytes, "bits": round(output.bits_per_weight, 4)}


def prepared(model: str, work: Path) -> Weights:
    """The mixture in F16 with its importance matrix, made if they are not there."""
    file, imatrix = work / f"{model}-F16.gguf", work / f"{model}-imatrix.gguf"
    if not file.exists():
        dense_checkpoint()
        franken_gguf("convert", str(ROOT / MODELS[model]), "-q", "F16", "-o", str(file))
    if not imatrix.exists():
        franken_gguf("imatrix", str(file), "--chunks", str(CHUNKS), "-o", str(imatrix))
    return Weights(file, imatrix, work)


def real(cell: Cell, weights: Weights, work: Path) -> Path:
    """The file of a cell as `convert` writes it."""
    file = work / f"{cell.model}-{cell.rung}.gguf"
    if not file.exists():
        imatrix = work / f"{cell.model}-imatrix.gguf"
        arguments = ("-q", cell.rung, "--imatrix", str(imatrix), "-o", str(file))
        franken_gguf("convert", str(weights.path), *arguments)
    return file


def franken_gguf(*arguments: str) -> None:
    """Run a command of this project."""
    subprocess.run([sys.executable, "-m", "franken_gguf.runner", *arguments], check=True)


def read_results(file: Path) -> dict[str, Any]:
    """What `save` wrote; nothing if it is not there yet."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def save(results: dict[str, Any], file: Path) -> None:
    """Write the results, all or nothing: a line for each cell."""
    lines = [f"{json.dumps(key)}: {json.dumps(cell)}" for key, cell in results.items()]
    with replacing(file) as part:
        part.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
