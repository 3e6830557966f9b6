"""What choosing codes under second moments gains at the same bytes: KL divergence.

Run: python benchmarks/chosen_codes.py MODEL-F16.gguf --imatrix FILE --second-moments FILE
     --text FILE --work FOLDER
For each size, the preset and --target-size of it: with the codes of ggml, and with chosen ones. The
blocks of ggml and results are kept in FOLDER, which benchmarks/target_size.py can share: the same
command resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from target_size import CHUNK, Judge, interval, preset_types, read_rows

from franken_gguf.quantize.blocks.code_refinement import REFINABLE
from franken_gguf.quantize.blocks.formats import U8
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.refinement import Refiner
from franken_gguf.quantize.target_size.type_menus import can_choose, menus, tensor_bytes
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.second_moments import (
    SecondMoments,
    WeightMoments,
    read_second_moments,
)
from franken_gguf.quantize.tensor_types.type_allocation import allocate
from franken_gguf.quantize.tensor_types.type_presets import Type
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.sensitivity.degrading import DegradedModel
from franken_gguf.runner.sensitivity.measure import loaded
from franken_gguf.runner.sensitivity.measured_source import measurements
from franken_gguf.runner.sensitivity.probe_texts import BUILT_IN


class ChoosingJudge(Judge):
    """Judges ggml's codes, or those chosen under `moments`."""

    moments: Mapping[str, WeightMoments] | None = None

    def judge(
        self, types: Mapping[str, Type], label: str, moments: SecondMoments | None
    ) -> NDArray[np.float64]:
        """The divergence of each chunk."""
        self._types.clear()
        if moments:
            shapes = {t.name: t.shape for t in self._source.tensors if len(t.shape) > 1}
            self.moments = moments.for_tensors(shapes)
            label += f" chosen under {moments.path.stem}"
        else:
            self.moments = None
        return self.divergences(types, label)

    def _rounded(self, index: int, kind: Type) -> U8:
        blocks = super()._rounded(index, kind)
        weight = (self.moments or {}).get(self._source.tensors[index].name)
        if weight is None or kind.name not in REFINABLE:
            return blocks
        chosen, start, refiner = [], 0, Refiner()
        for matrix, rows in read_rows(self._source, index):
            part = blocks[start : start + len(rows)]
            chosen.append(refiner(kind.name, rows, part, weight, matrix))
            start += len(rows)
        return np.concatenate(chosen)


def main() -> None:
    """Judge each size in each way, a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--second-moments", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="nothing may be tuned to it")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=("Q2_K", "Q3_K_M", "Q4_K_M"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    source, imatrix = open_source(given.model), read_imatrix(given.imatrix)
    moments = read_second_moments(given.second_moments)
    shapes = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    importances = imatrix.for_tensors(shapes)
    measured = measurements(
        *(source, given.model, importances, BUILT_IN), threads=given.threads, second_moments=moments
    )
    engine, weights = loaded(read_header(given.model), LoadOptions(n_threads=given.threads))
    text = given.text.read_text(encoding="utf-8")[5000:]
    starts = range(0, len(text) - 8 * CHUNK, len(text) // 8)
    chunks = [engine.vocabulary.prompt(text[start : start + 8 * CHUNK])[:CHUNK] for start in starts]
    model = DegradedModel(engine, weights, chunks)
    judge = ChoosingJudge(model, source, importances, given.work)
    tensors = [tensor for tensor in source.tensors if can_choose(tensor)]
    gaining = menus(tensors, measured)
    measured.gains = {}
    plain = menus(tensors, measured)
    for size in given.sizes:
        preset = preset_types(source, imatrix, size)
        budget = sum(tensor_bytes(tensor, preset[tensor.name]) for tensor in tensors)
        best, best_chosen = (
            [option.type for option in allocate(options, budget)] for options in (plain, gaining)
        )
        of_preset = [preset[tensor.name] for tensor in tensors]
        before: NDArray[np.float64] | None = None
        for way, kinds, chosen in (
            ("preset", of_preset, False),
            ("preset, chosen codes", of_preset, True),
            ("target", best, False),
            ("target, chosen codes", best, True),
            ("target of chosen codes", best_chosen, True),
        ):
            types = {tensor.name: kind for tensor, kind in zip(tensors, kinds, strict=True)}
            found = judge.judge(types, f"{given.text.name} 8", moments if chosen else None)
            before = found if not chosen else before
            assert before is not None
            low, high = (100 * bound / before.mean() for bound in interval(found - before))
            change = 100 * (found.mean() / before.mean() - 1)
            print(
                f"| {given.model.stem} | {size} | {way} | {found.mean():.5f} | "
                f"{change:+.1f} % ({low:+.1f} to {high:+.1f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
