"""Memory that `franken-gguf plan` predicts compared with llama.cpp's, as a Markdown table.

Beside the CPU RPC workers on loopback are the devices, one or two. The demo's models are loaded.
Of the others only the header exists and llama.cpp measures without allocating: compute buffers are
compared.
Run: python benchmarks/plan_accuracy.py [PART OF A MODEL'S NAME ...]
A run that was cut short is resumed by naming the models whose rows are missing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.models import demo_gguf, smollm2
from support.shapes import (
    DEEPSEEK_16B,
    MIXTRAL_4X7B,
    QWEN2_MOE_4X7B,
    QWEN3_MOE_4X4B,
    Shape,
    sparse_model,
)
from support.workers import by_device, engines, planned, worker

KV = ({"type_k": "f16", "type_v": "f16"}, {"type_k": "q8_0", "type_v": "q8_0"})
ONE, TWO = (1,), (1, 1)
MOE = ((0, 0), (-1, 0), (-1, 99), (-1, 2), (2, 0))
DENSE = ((0, 0), (-1, 0), (3, 0))
Places = tuple[tuple[int, int], ...]
SPARSE: dict[str, tuple[Shape, Places]] = {
    "4x7b (Mixtral), Q4_0": (MIXTRAL_4X7B, MOE),
    "7b, Q4_0": (MIXTRAL_4X7B | {"experts": 0}, DENSE),
    "fine-grained, 8 of 32 experts": (
        {"n_embd": 2048, "n_ff": 768, "heads": 32, "kv_heads": 4, "experts": 32, "used": 8},
        MOE,
    ),
    "4x7b (Qwen2-MoE, shared expert), Q4_0": (QWEN2_MOE_4X7B, MOE),
    "4x4b (Qwen3-MoE), Q4_0": (QWEN3_MOE_4X4B, MOE),
    "16b (DeepSeek), 6 of 64 experts": (DEEPSEEK_16B, MOE),
    "3b (Llama 3.2), Q4_0": (
        {"n_embd": 3072, "n_ff": 8192, "heads": 24, "kv_heads": 8, "layers": 28},
        DENSE,
    ),
    "8b (Qwen3), Q4_0": (
        {"n_embd": 4096, "n_ff": 12288, "heads": 32, "kv_heads": 8, "architecture": "qwen3"},
        DENSE,
    ),
}


def jobs(
    model: Path,
    places: Places,
    contexts: tuple[int, ...],
    split: tuple[int, ...],
) -> list[Any]:
    """One for each placement, context and type of cache, over as many devices as `split` names."""
    return [
        {
            "model": str(model),
            "wishes": {
                "n_ctx": n_ctx,
                "n_gpu_layers": layers,
                "n_cpu_moe": experts,
                "tensor_split": split,
                **kv,
            },
        }
        for n_ctx in contexts
        for kv in KV
        for layers, experts in places
        if layers or split == ONE
    ]


def errors(results: list[dict[str, Any]], *, measured: bool) -> list[float]:
    """Percent by which the plan is above what llama.cpp took, for each device of each result."""
    foreseen = ("compute buffers",) if measured else ()
    reported = ("compute", "output") if measured else ()
    return [
        100 * (planned(result, *foreseen)[name] / nbytes - 1)
        for result in results
        for name, nbytes in by_device(result, *reported).items()
        if nbytes > 1 << 20
    ]


def show(name: str, what: str, split: tuple[int, ...], found: list[float]) -> None:
    """A row: how many figures, the lowest, the highest and the mean error."""
    mean = sum(map(abs, found)) / len(found)
    figures = f"{len(found)} | {min(found):+.2f} | {max(found):+.2f} | {mean:.2f}"
    print(f"| {name} | {len(split)} | {what} | {figures} |", flush=True)


def wanted(name: str) -> bool:
    """Whether the command line names this model, or none."""
    return not sys.argv[1:] or any(part in name for part in sys.argv[1:])


def main() -> None:
    """Measure and print."""
    print("| model | devices | compared | figures | lowest % | highest % | mean % |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    loaded: dict[str, tuple[Path, Places]] = {
        name: (demo_gguf(kind), MOE)
        for kind in ("Q8_0", "Q4_K_M")
        if wanted(name := f"demo merge, {kind}")
    }
    if wanted(name := "SmolLM2, Q4_1"):
        loaded[name] = (smollm2(), DENSE)
    with TemporaryDirectory() as folder, worker() as one, worker() as other:
        for name, (path, places) in loaded.items():
            for split in (ONE, TWO):
                done = engines(jobs(path, places, (512, 4096, 8192), split), one, other)
                show(name, "all memory", split, errors(done, measured=False))
        for number, (name, (shape, places)) in enumerate(SPARSE.items()):
            if not wanted(name):
                continue
            path = sparse_model(Path(folder) / f"{number}.gguf", **shape)
            for split in (ONE, TWO):
                measured = jobs(path, places, (512, 4096, 32768), split)
                done = engines([job | {"measure": True} for job in measured], one, other)
                show(name, "compute buffers", split, errors(done, measured=True))


if __name__ == "__main__":
    main()
