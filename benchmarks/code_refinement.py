"""What choosing codes under the inputs' second moments gains at the same bytes: KL divergence.

Run: python benchmarks/code_refinement.py MODEL-F16.gguf --imatrix FILE --text FILE --work FOLDER
For each preset: ggml's blocks, and the same with refined codes; the moments are those of the inputs
while the model reads our calibration set. Blocks, moments and results are kept in FOLDER, so that
the same command resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from target_size import CHUNK, Judge, interval, preset_types, read_rows

from franken_gguf.quantize.blocks.code_planes import LAYOUTS
from franken_gguf.quantize.blocks.code_refinement import prepared, refined
from franken_gguf.quantize.blocks.formats import F32, U8
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.target_size.type_menus import can_choose
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.type_presets import Type
from franken_gguf.runner.engine.engine import Engine
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.engine.matmul_inputs import MatmulInput, MatmulInputs
from franken_gguf.runner.imatrix.calibrate import Settings, Text, text_chunks
from franken_gguf.runner.imatrix.texts import BUILT_IN, built_in_text, plainly
from franken_gguf.runner.sensitivity.degrading import DegradedModel
from franken_gguf.runner.sensitivity.measure import loaded

F64 = NDArray[np.float64]
Moments = dict[str, F32]
"""By weight, [matrices, groups, cols of a group, the same]: sums of x xT."""


class MomentSums:
    """Adds up the second moments of the inputs of each weight."""

    def __init__(self) -> None:
        self.moments: Moments = {}

    def add(self, entry: MatmulInput) -> None:
        """The inputs of one multiplication."""
        cols = entry.rows.shape[-1]
        size = group_size(cols)
        empty = np.zeros((entry.matrices, cols // size, size, size), np.float32)
        sums = self.moments.setdefault(entry.weight, empty)
        for matrix, rows in enumerate(inputs_by_matrix(entry)):
            for group, columns in enumerate(np.split(rows, cols // size, axis=1)):
                sums[matrix, group] += columns.T @ columns


def group_size(cols: int) -> int:
    """256 columns if these fit, half of all otherwise."""
    return cols // 2 if cols % 256 else 256


def inputs_by_matrix(entry: MatmulInput) -> Iterator[F32]:
    """[rows, cols] for each matrix."""
    if entry.experts is None:
        yield from entry.rows.reshape(entry.matrices, -1, entry.rows.shape[-1])
        return
    for expert in range(entry.matrices):
        token, slot = np.nonzero(entry.experts == expert)
        yield entry.rows[token, slot % entry.rows.shape[1]]


def collect(model: Path, chunks: int, threads: int) -> Moments:
    """Of the first chunks of our calibration set."""
    probe, sums = MatmulInputs(), MomentSums()
    options = replace(LoadOptions(n_threads=threads), n_ctx=512, n_outputs=512)
    text = Text(BUILT_IN, built_in_text(plainly))
    with Engine(read_header(model), options, probe=probe) as engine:
        for chunk in text_chunks([text], engine.vocabulary, Settings(chunks=chunks))[0]:
            engine.forget_from(0)
            probe.begin(sums.add)
            engine.logits(chunk)
    return sums.moments


class RefiningJudge(Judge):
    """Judges refined codes if `shrinkage` is not None."""

    moments: Mapping[str, F32]
    shrinkage: float | None = None

    def judge(self, types: Mapping[str, Type], label: str, shrinkage: float | None) -> F64:
        """The divergence of each chunk."""
        self.shrinkage = shrinkage
        self._types.clear()
        refining = "" if shrinkage is None else f" refined {shrinkage}"
        return self.divergences(types, label + refining)

    def _rounded(self, index: int, kind: Type) -> U8:
        blocks = super()._rounded(index, kind)
        tensor = self._source.tensors[index]
        moments = self.moments.get(tensor.name)
        if self.shrinkage is None or moments is None or kind.name not in LAYOUTS:
            return blocks
        done, start = [], 0
        ready = [[prepared(m, self.shrinkage) for m in matrix] for matrix in moments]
        for matrix, rows in read_rows(self._source, index):
            part = blocks[start : start + len(rows)]
            done.append(refined(kind.name, rows, part, ready[matrix]))
            start += len(rows)
        return np.concatenate(done)


def read_or_collect(file: Path, model: Path, chunks: int, threads: int) -> Moments:
    """The moments kept in `file`."""
    if not file.exists():
        found: dict[str, Any] = {**collect(model, chunks, threads)}
        np.savez(file, **found)
    with np.load(file) as kept:
        return dict(kept)


def main() -> None:
    """Judge every preset with ggml's codes and with refined ones, a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="nothing may be tuned to it")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--calibration-chunks", type=int, default=16)
    parser.add_argument("--shrinkage", type=float, default=0.5)
    parser.add_argument("--sizes", nargs="+", default=("Q2_K", "Q3_K_M", "Q4_K_M"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    count = given.calibration_chunks
    moments = read_or_collect(
        given.work / f"moments-{count}.npz", given.model, count, given.threads
    )
    source, imatrix = open_source(given.model), read_imatrix(given.imatrix)
    shapes = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    engine, weights = loaded(read_header(given.model), LoadOptions(n_threads=given.threads))
    text = given.text.read_text(encoding="utf-8")[5000:]
    starts = range(0, len(text) - 8 * CHUNK, len(text) // 8)
    chunks = [engine.vocabulary.prompt(text[start : start + 8 * CHUNK])[:CHUNK] for start in starts]
    model = DegradedModel(engine, weights, chunks)
    judge = RefiningJudge(model, source, imatrix.for_tensors(shapes), given.work)
    judge.moments = moments
    for size in given.sizes:
        types = chosen_types(source, preset_types(source, imatrix, size))
        plain = judge.judge(types, f"{given.text.name} 8", None)
        label = f"{given.text.name} 8 from {count}"
        better = judge.judge(types, label, given.shrinkage)
        low, high = (100 * bound / plain.mean() for bound in interval(better - plain))
        change = 100 * (better.mean() / plain.mean() - 1)
        print(
            f"| {given.model.stem} | {size} | {plain.mean():.5f} | {better.mean():.5f} | "
            f"{change:+.1f} % ({low:+.1f} to {high:+.1f}) |",
            flush=True,
        )


def chosen_types(source: Source, preset: Mapping[str, Type]) -> dict[str, Type]:
    """The preset's type of each tensor that has a choice."""
    return {t.name: preset[t.name] for t in source.tensors if can_choose(t)}


if __name__ == "__main__":
    main()
