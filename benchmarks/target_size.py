"""How near models of equal bytes stay to the unquantized one: types chosen in several ways.

Run: python benchmarks/target_size.py MODEL-F16.gguf --imatrix FILE --work FOLDER [--text FILE]
For each size (the bytes of a preset): the preset itself, --target-size, the objective of llama.cpp
#15550, and random types (three seeds), all with the same imatrix. Nothing is written for a
candidate: its weights replace those of the running F16 model. Resumable: run it again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.output.worker_memory import share_memory
from franken_gguf.quantize.target_size.measurements import load, measurements_key, save
from franken_gguf.quantize.target_size.type_errors import weighted_square
from franken_gguf.quantize.target_size.type_menus import can_choose, menus, tensor_bytes
from franken_gguf.quantize.tensor_types.imatrix import read_imatrix
from franken_gguf.quantize.tensor_types.type_allocation import Option, allocate
from franken_gguf.quantize.tensor_types.type_presets import PRESETS, find_preset
from franken_gguf.runner.sensitivity.degrading import DegradedModel
from franken_gguf.runner.sensitivity.measure import (
    loaded,
    measure_divergences,
    measure_errors,
    passages,
)

CHUNK, SEEDS = 128, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--probe-text", type=Path, nargs="+", required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument(
        "--sizes", nargs="+", default=["Q4_K_M", "Q2_K", "Q3_K_M", "Q5_K_M", "Q6_K"]
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=["preset", "target", "error", "random"])
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    source = open_source(args.model)
    imatrix = read_imatrix(args.imatrix)
    shapes = {t.name: t.shape for t in source.tensors if len(t.shape) > 1}
    importances = imatrix.for_tensors(shapes)
    share = share_memory(source.tensors, args.threads, 512 << 20)
    from franken_gguf.runner.engine.loading import LoadOptions

    engine, weights = loaded(read_header(args.model), LoadOptions(n_threads=args.threads))
    texts = [t.read_text()[90_000:91_000] for t in args.probe_text]
    some = passages(engine, texts)
    file = args.work / f"{measurements_key(source, importances, repr(some).encode())}.json"
    measured = load(file)
    measure_errors(source, importances, measured, share, lambda x: None)
    save(file, measured)
    stored = {t.name: t.stored for t in source.tensors}
    import time

    t0 = time.time()
    if any(can_choose(t) and t.name not in measured.divergences for t in source.tensors):
        measure_divergences(
            DegradedModel(engine, weights, some), source, importances, stored, measured, file, share
        )
    print(f"measured in {time.time() - t0:.0f} s", flush=True)

    tokens = engine.vocabulary.prompt(
        args.text.read_text()[5_000 : 5_000 + 8 * CHUNK * args.chunks]
    )
    model = DegradedModel(
        engine, weights, [tokens[i * CHUNK : (i + 1) * CHUNK] for i in range(args.chunks)]
    )
    judge = Judge(model, source, importances, stored, args.work)
    tensors = [t for t in source.tensors if can_choose(t)]
    options = menus(tensors, measured)
    energy = {t.name: judge.energy(t) for t in tensors}
    error_menus = [
        [
            Option(o.type, o.nbytes, measured.errors[t.name][o.type.name] * energy[t.name])
            for o in menu
        ]
        for t, menu in zip(tensors, options)
    ]
    for size in args.sizes:
        preset = plan_output(source, Path("x"), find_preset(size), None, imatrix)
        chosen = {t.source.name: t.choice.type for t in preset.tensors}
        budget = sum(tensor_bytes(t, chosen[t.name]) for t in tensors)
        ways = {}
        if "preset" in args.methods:
            ways["preset"] = [chosen[t.name] for t in tensors]
        if "target" in args.methods:
            ways["target"] = [o.type for o in allocate(options, budget)]
        if "error" in args.methods:
            ways["error"] = [o.type for o in allocate(error_menus, budget)]
        if "random" in args.methods:
            for seed in range(SEEDS):
                ways[f"random {seed}"] = [o.type for o in randomly(options, budget, seed)]
        for way, types in ways.items():
            nbytes = sum(tensor_bytes(t, k) for t, k in zip(tensors, types))
            by_chunk = judge(dict(zip([t.name for t in tensors], types)))
            low, high = interval(by_chunk)
            predicted = (
                sum(next(o.cost for o in m if o.type is k) for m, k in zip(options, types))
                if all(any(o.type is k for o in m) for m, k in zip(options, types))
                else -1
            )
            print(
                f"{args.model.stem} {size} {8 * nbytes / sum(t.rows * t.cols for t in tensors):.3f} bpw {way}: "
                f"KL {by_chunk.mean():.5f} [{low:.5f}, {high:.5f}] predicted {predicted:.5f}",
                flush=True,
            )


class Judge:
    def __init__(self, model, source, importances, stored, work):
        self.model, self.source, self.importances, self.stored = model, source, importances, stored
        self.folder = work / "blocks"
        self.folder.mkdir(exist_ok=True)
        self.results = work / "results.json"
        self.done = json.loads(self.results.read_text()) if self.results.exists() else {}
        self.current = {}
        self.index = {t.name: t for t in source.tensors}

    def energy(self, tensor):
        importance = self.importances.get(tensor.name)
        total, matrices = 0.0, len(tensor.pieces)
        for m, piece in enumerate(tensor.pieces):
            rows = FORMATS[tensor.stored.name].dequantize(
                self.source.read(tensor, piece, piece.start, piece.stop)
            )
            total += weighted_square(rows, None if importance is None else importance[m])
        return total / matrices

    def blocks(self, tensor, kind):
        path = self.folder / f"{tensor.name}-{kind.name}.bin"
        codec = FORMATS[kind.name]
        if path.exists():
            return np.fromfile(path, np.uint8).reshape(tensor.rows, -1)
        importance = self.importances.get(tensor.name)
        parts = []
        for m, piece in enumerate(tensor.pieces):
            step = max(1, (1 << 20) // tensor.cols)
            if tensor.rotary_heads:
                step = tensor.rows
            for start in range(piece.start, piece.stop, step):
                rows = FORMATS[tensor.stored.name].dequantize(
                    self.source.read(tensor, piece, start, min(start + step, piece.stop))
                )
                parts.append(codec.quantize(rows, None if importance is None else importance[m]))
        blocks = np.concatenate(parts)
        part = path.with_suffix(f".part{id(self)}")
        blocks.tofile(part)
        part.rename(path)
        return blocks

    def __call__(self, types):
        import hashlib

        key = hashlib.sha256(
            repr(sorted((n, k.name) for n, k in types.items())).encode()
        ).hexdigest()[:16]
        key += f"-{len(self.model._passages)}"
        if key in self.done:
            return np.array(self.done[key])
        for name, kind in types.items():
            if self.current.get(name) is kind:
                continue
            tensor = self.index[name]
            blocks = self.blocks(tensor, kind)
            rows = FORMATS[kind.name].dequantize(blocks)
            self.model.replace(
                [(name, FORMATS[self.stored[name].name].quantize(rows, None).reshape(-1))]
            )
            self.current[name] = kind
        result = np.array([k[12:].mean() for k in self.model.divergence()])
        self.done = json.loads(self.results.read_text()) if self.results.exists() else {}
        self.done[key] = result.tolist()
        self.results.write_text(json.dumps(self.done))
        return result


def randomly(menus, budget, seed):
    """Random types, then random changes until the bytes are within 0.2 % below the budget."""
    rng = np.random.default_rng(seed)
    choice = [menu[rng.integers(len(menu))] for menu in menus]
    total = sum(o.nbytes for o in choice)
    for _ in range(1_000_000):
        if 0.998 * budget <= total <= budget:
            return choice
        i = int(rng.integers(len(menus)))
        new = menus[i][rng.integers(len(menus[i]))]
        change = new.nbytes - choice[i].nbytes
        if (
            (change < 0) == (total > budget)
            and total + change > 0.99 * budget
            or (total > budget and change < 0)
        ):
            choice[i], total = new, total + change
    raise SystemExit("no random choice found")


def interval(values):
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    return np.percentile(means, (2.5, 97.5))


if __name__ == "__main__":
    main()
