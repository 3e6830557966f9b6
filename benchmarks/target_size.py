"""How near models of equal bytes stay to the unquantized one, their types chosen in several ways.

Run: python benchmarks/target_size.py MODEL-F16.gguf --imatrix FILE --text FILE --work FOLDER
For each size (the bytes of a preset): the preset, --target-size, the objective of llama.cpp #15550,
the plain weighted error, and random types (three seeds), all with the same imatrix. No file is
written for a candidate: its weights replace those of the running model. Blocks are rounded by
ggml's own function, whose bytes are ours; they and the results are kept in FOLDER, so that the same
command resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import F32, FORMATS, U8
from franken_gguf.quantize.checkpoint.name_mapping import SourceTensor
from franken_gguf.quantize.checkpoint.source import Source
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.jobs import jobs
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.target_size.measurements import Measurements
from franken_gguf.quantize.target_size.type_errors import sample_rows, weighted_square
from franken_gguf.quantize.target_size.type_menus import can_choose, menus, tensor_bytes
from franken_gguf.quantize.tensor_types.imatrix import Imatrix, read_imatrix
from franken_gguf.quantize.tensor_types.type_allocation import Menu, Option, allocate
from franken_gguf.quantize.tensor_types.type_presets import Type, find_preset
from franken_gguf.runner.engine.loading import LoadOptions
from franken_gguf.runner.sensitivity.degrading import DegradedModel
from franken_gguf.runner.sensitivity.measure import loaded
from franken_gguf.runner.sensitivity.measured_source import measurements
from franken_gguf.runner.sensitivity.probe_texts import BUILT_IN

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.ggml import ggml_quantize

CHUNK, SKIPPED = 128, 12
_CHANGES = 100_000
JOB_WEIGHTS = 1 << 20
SIZES = ("Q4_K_M", "IQ2_XS", "Q6_K", "Q4_K_MOE", "Q3_K_M", "Q2_K", "Q5_K_M", "IQ2_XXS", "IQ1_S")
WAYS = ("preset", "target", "15550", "error", "random 0", "random 1", "random 2")


class Judge:
    """KL divergence of a running model under any types of its tensors."""

    def __init__(
        self, model: DegradedModel, source: Source, importances: Mapping[str, F32], work: Path
    ) -> None:
        self._model, self._source, self._importances = model, source, importances
        self._blocks = work / "blocks"
        self._blocks.mkdir(parents=True, exist_ok=True)
        self._file = work / "results.json"
        self._types: dict[str, Type] = {}

    def divergences(self, types: Mapping[str, Type], label: str) -> NDArray[np.float64]:
        """The mean of each chunk."""
        named = sorted((name, kind.name) for name, kind in types.items())
        key = hashlib.sha256(repr((label, named)).encode()).hexdigest()[:16]
        done = json.loads(self._file.read_text()) if self._file.exists() else {}
        if key not in done:
            self._model.replace(self._changed(types))
            done[key] = [float(chunk[SKIPPED:].mean()) for chunk in self._model.divergence()]
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps(done))
            part.replace(self._file)
        return np.array(done[key])

    def _changed(self, types: Mapping[str, Type]) -> Iterator[tuple[str, U8]]:
        for index, tensor in enumerate(self._source.tensors):
            kind = types.get(tensor.name)
            if kind is None or self._types.get(tensor.name) is kind:
                continue
            self._types[tensor.name] = kind
            rows = FORMATS[kind.name].dequantize(self._rounded(index, kind))
            yield tensor.name, FORMATS[tensor.stored.name].quantize(rows, None)

    def _rounded(self, index: int, kind: Type) -> U8:
        tensor = self._source.tensors[index]
        file = self._blocks / f"{tensor.name}-{kind.name}.bin"
        if file.exists():
            return np.fromfile(file, np.uint8).reshape(tensor.rows, -1)
        importance = self._importances.get(tensor.name)
        codec = FORMATS[kind.name]
        blocks = np.concatenate(
            [
                ggml_quantize(codec, rows, None if importance is None else importance[matrix])
                for matrix, rows in read_rows(self._source, index)
            ]
        )
        part = file.with_suffix(".part")
        blocks.tofile(part)
        part.rename(file)
        return blocks


def read_rows(source: Source, index: int) -> Iterator[tuple[int, F32]]:
    """All rows of a tensor in parts: the number of the matrix, float32 [rows, cols]."""
    tensor = source.tensors[index]
    for job in jobs(source.tensors[: index + 1], JOB_WEIGHTS):
        if job.index == index:
            rows = source.read(tensor, job.piece, job.start, job.stop)
            yield job.matrix, FORMATS[tensor.stored.name].dequantize(rows)


def error_menus(
    source: Source,
    tensors: Sequence[SourceTensor],
    options: Sequence[Menu],
    measured: Measurements,
    importances: Mapping[str, F32],
) -> list[list[Option]]:
    """The plain objective: the sum over all weights of importance times squared error."""
    place = {tensor.name: index for index, tensor in enumerate(source.tensors)}
    found = []
    for tensor, menu in zip(tensors, options, strict=True):
        importance = importances.get(tensor.name)
        energy = sum(
            weighted_square(rows, None if importance is None else importance[matrix])
            for matrix, rows in read_rows(source, place[tensor.name])
        )
        errors = measured.errors[tensor.name]
        found.append([Option(o.type, o.nbytes, energy * errors[o.type.name]) for o in menu])
    return found


def row_menus(
    source: Source,
    tensors: Sequence[SourceTensor],
    options: Sequence[Menu],
    importances: Mapping[str, F32],
) -> list[list[Option]]:
    """What #15550 minimises with an imatrix of llama.cpp's main branch.

    The sum over all rows of the weighted squared error relative to the row's own weighted square,
    from a sample of rows. (Its correction for biased errors needs mean activations, which only
    the pull request's own imatrix files have.)
    """
    place = {tensor.name: index for index, tensor in enumerate(source.tensors)}
    found = []
    for tensor, menu in zip(tensors, options, strict=True):
        importance = importances.get(tensor.name)
        sums = {option.type: 0.0 for option in menu}
        count = 0
        for matrix, rows in sample_rows(source, tensor, seed=place[tensor.name]):
            weights = np.ones(tensor.cols, np.float32) if importance is None else importance[matrix]
            squares = np.square(rows, dtype=np.float64) @ weights + 1e-12
            count += len(rows)
            for option in menu:
                codec = FORMATS[option.type.name]
                blocks = ggml_quantize(codec, rows, None if importance is None else weights)
                off = np.square(codec.dequantize(blocks) - rows, dtype=np.float64) @ weights
                sums[option.type] += float((off / squares).sum())
        scale = tensor.rows / count
        found.append([Option(o.type, o.nbytes, scale * sums[o.type]) for o in menu])
    return found


def randomly(menus: Sequence[Menu], budget: int, weights: int, seed: int) -> list[Option]:
    """Random types of 0.6 to 1.6 times the average size, within 0.2 % below `budget` in all.

    Random changes of a random choice are kept while they bring the bytes nearer; where none does,
    another choice is drawn.
    """
    rng = np.random.default_rng(seed)
    low, high = 0.6 * budget / weights, 1.6 * budget / weights
    near = []
    for menu in menus:
        size = min(option.nbytes for option in menu if option.type is Type.Q8_0) / (34 / 32)
        fitting = [option for option in menu if low <= option.nbytes / size <= high]
        near.append(fitting or [min(menu, key=lambda option: option.nbytes)])
    while True:
        choice = [menu[int(rng.integers(len(menu)))] for menu in near]
        total = sum(option.nbytes for option in choice)
        for _ in range(_CHANGES):
            if 0.998 * budget <= total <= budget:
                return choice
            place = int(rng.integers(len(near)))
            new = near[place][int(rng.integers(len(near[place])))]
            change = new.nbytes - choice[place].nbytes
            if abs(total + change - 0.999 * budget) < abs(total - 0.999 * budget):
                choice[place], total = new, total + change


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean over chunks."""
    places = np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))
    low, high = np.percentile(values[places].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    """Judge every way at every size, a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="nothing may be tuned to it")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    source, imatrix = open_source(arguments.model), read_imatrix(arguments.imatrix)
    shapes = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    importances = imatrix.for_tensors(shapes)
    measured = measurements(
        source, arguments.model, importances, BUILT_IN, threads=arguments.threads
    )
    engine, weights = loaded(read_header(arguments.model), LoadOptions(n_threads=arguments.threads))
    text = arguments.text.read_text(encoding="utf-8")[5000:]
    starts = range(0, len(text) - 8 * CHUNK, len(text) // arguments.chunks)
    chunks = [engine.vocabulary.prompt(text[start : start + 8 * CHUNK])[:CHUNK] for start in starts]
    judge = Judge(DegradedModel(engine, weights, chunks), source, importances, arguments.work)
    label = f"{arguments.text.name} {arguments.chunks}"

    tensors = [tensor for tensor in source.tensors if can_choose(tensor)]
    options = menus(tensors, measured)
    count = sum(tensor.rows * tensor.cols for tensor in tensors)
    by_way: dict[str, Sequence[Menu]] = {"target": options}
    if "error" in arguments.ways:
        by_way["error"] = error_menus(source, tensors, options, measured, importances)
    if "15550" in arguments.ways:
        by_way["15550"] = row_menus(source, tensors, options, importances)
    for size in arguments.sizes:
        preset = preset_types(source, imatrix, size)
        budget = sum(tensor_bytes(tensor, preset[tensor.name]) for tensor in tensors)
        for way in arguments.ways:
            if way == "preset":
                chosen = [preset[tensor.name] for tensor in tensors]
            elif way.startswith("random"):
                picked = randomly(options, budget, count, int(way.split()[1]))
                chosen = [option.type for option in picked]
            else:
                chosen = [option.type for option in allocate(by_way[way], budget)]
            types = {tensor.name: kind for tensor, kind in zip(tensors, chosen, strict=True)}
            by_chunk = judge.divergences(types, label)
            low, high = interval(by_chunk)
            bits = 8 * budget / count
            costs = [
                next((o.cost for o in menu if o.type is kind), 0.0)
                for menu, kind in zip(options, chosen, strict=True)
            ]
            print(
                f"| {arguments.model.stem} | {size} | {bits:.2f} | {way} | {by_chunk.mean():.5f} | "
                f"{low:.5f} to {high:.5f} | {sum(costs):.5f} |",
                flush=True,
            )


def preset_types(source: Source, imatrix: Imatrix, name: str) -> dict[str, Type]:
    """By tensor, what the preset chooses."""
    plan = plan_output(source, Path(name), find_preset(name), None, imatrix)
    return {tensor.source.name: tensor.choice.type for tensor in plan.tensors}


if __name__ == "__main__":
    main()
