"""A plan followed: what lands where by llama.cpp's own report, and the same answer from anywhere.

The second device is an RPC worker on loopback, a real ggml device of type GPU with a memory, layers
and buffers of its own; CUDA, Metal and Vulkan go through the same calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.planning.placement import Machine
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

MIB = 1 << 20
# llama.cpp prints a hundredth of a MiB for each of up to eight buffers.
ROUNDING = MIB // 10


class CacheTypes(TypedDict):
    type_k: str
    type_v: str


F16: CacheTypes = {"type_k": "f16", "type_v": "f16"}
Q8: CacheTypes = {"type_k": "q8_0", "type_v": "q8_0"}


def close(found: dict[str, int], expected: dict[str, int], part: float) -> bool:
    return found.keys() == expected.keys() and all(
        abs(found[name] - expected[name]) <= part * found[name] + ROUNDING for name in found
    )


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    """The demo mixture without a device, with all on it, and in between; one process for all."""
    model = str(demo_gguf("Q8_0"))
    with worker() as endpoint:
        base = {"model": model, "tokens": 12}
        # Attention without flash, as it is on the CPU alone, rounds differently.
        alone = {"n_ctx": 1024, "n_gpu_layers": 0, "flash_attention": True}
        return engines(
            [
                base | {"wishes": alone},
                base | {"wishes": {"n_ctx": 1024}},
                base | {"wishes": {"n_ctx": 1024, "n_cpu_moe": 30}},
                base | {"wishes": {"n_ctx": 1024, **Q8}, "vram": [400 * MIB]},
                base | {"wishes": {"n_ctx": 1024, **F16}, "vram": [100 * MIB]},
                base
                | {"wishes": {"n_ctx": 1024, "n_cpu_moe": 0}}
                | {"overrides": [[r"blk\.([0-9])\.ffn_up_exps", "CPU"], [r"attn_q", "CPU"]]},
            ],
            endpoint,
        )


@pytest.fixture(scope="module")
def spread() -> list[dict[str, Any]]:
    """The demo mixture over two devices: by their room, experts in RAM, layers too, by hand."""
    base = {"model": str(demo_gguf("Q8_0")), "tokens": 12}
    wishes: dict[str, Any] = {"n_ctx": 1024, **F16}
    with worker() as one, worker() as other:
        return engines(
            [
                base | {"wishes": wishes, "vram": [400 * MIB, 400 * MIB]},
                base | {"wishes": wishes, "vram": [300 * MIB, 200 * MIB]},
                base | {"wishes": wishes, "vram": [90 * MIB, 60 * MIB]},
                base | {"wishes": wishes | {"tensor_split": [30, 1]}},
                base
                | {"wishes": wishes | {"tensor_split": [1, 2], "n_gpu_layers": 20}}
                | {"overrides": [[r"blk\.30\.ffn_up_exps", "RPC0"], [r"attn_q", "CPU"]]},
            ],
            one,
            other,
        )


def test_the_plans_share_the_layers_in_each_way_there_is(answers: list[dict[str, Any]]) -> None:
    shares = [
        (a["plan"]["n_gpu_layers"], a["plan"]["n_cpu_moe"], len(a["plan"]["partly"]) > 0)
        for a in answers
    ]
    assert shares == [
        (0, 0, False),
        (31, 0, False),
        (31, 30, False),
        (31, 14, True),
        (16, 30, False),
        (31, 0, False),
    ]


def test_layers_are_spread_over_two_devices_in_each_way_there_is(
    spread: list[dict[str, Any]],
) -> None:
    assert all(answer["plan"]["devices"] == ["RPC0", "RPC1"] for answer in spread)
    shares = [
        (*a["plan"]["tensor_split"], a["plan"]["n_cpu_moe"], len(a["plan"]["partly"]) > 0)
        for a in spread
    ]
    assert shares == [
        (19, 12, 0, False),
        (24, 7, 12, False),
        (26, 2, 30, False),
        (30, 1, 0, False),
        (7, 13, 11, False),
    ]


def test_every_weight_is_on_its_planned_device_by_llama_cpps_own_log(
    answers: list[dict[str, Any]], spread: list[dict[str, Any]]
) -> None:
    kinds = ("attention", "experts", "router", "norms", "embeddings", "feed-forward", "other")
    for answer in answers + spread:
        assert close(by_device(answer, "model"), planned(answer, *kinds), 0)


def test_the_kv_cache_goes_with_its_layers(
    answers: list[dict[str, Any]], spread: list[dict[str, Any]]
) -> None:
    for answer in answers + spread:
        expected = {name: n for name, n in planned(answer, "KV cache").items() if n}
        assert close(by_device(answer, "KV"), expected, 0)


def test_all_that_llama_cpp_takes_is_within_5_percent_of_the_plan(
    answers: list[dict[str, Any]], spread: list[dict[str, Any]]
) -> None:
    for answer in answers + spread:
        assert close(by_device(answer), planned(answer), 0.05)


def test_a_greedy_answer_is_the_same_wherever_the_layers_are(
    answers: list[dict[str, Any]], spread: list[dict[str, Any]]
) -> None:
    first = answers[0]["tokens"]
    assert len(first) == 12
    # A KV cache in 8 bits is another model, near as it is.
    assert [a["tokens"] for a in answers if a["plan"]["cache"]["type_k"] == "f16"] == [first] * 5
    assert [a["tokens"] for a in spread] == [first] * 5


@pytest.mark.parametrize("n_ctx", [512, 2048, 8192])
@pytest.mark.parametrize("cache", [F16, Q8], ids=["f16", "q8_0"])
@pytest.mark.parametrize("model", ["Q8_0", "Q4_K_M", "SmolLM2"])
def test_on_the_cpu_the_plan_is_within_5_percent_repacked_weights_included(
    model: str, cache: CacheTypes, n_ctx: int
) -> None:
    path = smollm2() if model == "SmolLM2" else demo_gguf(model)
    options = LoadOptions(n_ctx=n_ctx, **cache, n_gpu_layers=0, n_threads=1, mmap=False)
    with Engine(read_header(path), options) as engine:
        # Faster on a CPU without, where the scores are small and the values no blocks.
        assert engine.plan.cache.flash_attention == (cache is Q8)
        taken = sum(buffer.nbytes for buffer in engine.buffers)
        kv = sum(buffer.nbytes for buffer in engine.buffers if buffer.holds == "KV")
        assert abs(engine.plan.total("CPU") - taken) <= 0.05 * taken
        assert abs(engine.plan.used["CPU"]["KV cache"] - kv) <= ROUNDING


def test_the_formula_for_compute_buffers_holds_for_models_that_are_not_here(
    tmp_path: Path,
) -> None:
    shapes: dict[str, Shape] = {
        "4x7b": MIXTRAL_4X7B | {"layers": 5},
        "7b": MIXTRAL_4X7B | {"layers": 5, "experts": 0},
        "fine-grained": {
            "n_embd": 2048,
            "n_ff": 768,
            "heads": 32,
            "kv_heads": 4,
            "layers": 5,
            "experts": 16,
            "used": 8,
        },
        "Qwen2-MoE": QWEN2_MOE_4X7B | {"layers": 5},
        "DeepSeek": DEEPSEEK_16B | {"layers": 5},
        "Qwen3-MoE": QWEN3_MOE_4X4B | {"layers": 5},
    }
    every = ((0, 0), (6, 0), (6, 5), (6, 2), (3, 0))
    # What differs in the other families is within a layer, and in a longer context the sizes.
    some = ((0, 0), (6, 0), (6, 2))
    jobs: list[dict[str, Any]] = [
        {
            "measure": True,
            "model": str(sparse_model(tmp_path / f"{name}.gguf", **shape)),
            "wishes": {"n_ctx": n_ctx, "n_gpu_layers": layers, "n_cpu_moe": experts, **F16},
        }
        for name, shape in shapes.items()
        for n_ctx in ((512,) if "architecture" in shape else (512, 4096))
        for layers, experts in (some if "architecture" in shape or n_ctx > 512 else every)
    ]
    apart = [
        job | {"wishes": job["wishes"] | {"tensor_split": [3, 3]}}
        for job in jobs
        if job["wishes"]["n_gpu_layers"] == 6 and job["wishes"]["n_ctx"] == 512
    ]
    with worker() as one, worker() as other:
        results = engines(jobs, one) + engines(apart, one, other)
    jobs += apart
    for job, result in zip(jobs, results, strict=True):
        found, foreseen = by_device(result, "compute", "output"), planned(result, "compute buffers")
        assert found.keys() == foreseen.keys()
        for name in found:  # a little more is room to spare, less is a failed allocation
            assert (
                0.99 * found[name] - ROUNDING <= foreseen[name] <= 1.2 * found[name] + ROUNDING
            ), job
    # The whole of the real thing: 24 billion weights, of which none was read.
    assert sum(planned(results[0]).values()) > 2 << 30


def test_a_device_with_less_memory_than_it_reported_gets_less_with_a_notice() -> None:
    model = str(demo_gguf("Q8_0"))
    wishes = {"n_ctx": 1024}
    # The weights take 517 MiB, those of the next plan 445 and 39 more while they are received. A
    # worker that has room for weights, but not for receiving them, ends.
    with worker(memory=500 * MIB) as endpoint:
        (answer,) = engines(
            [{"model": model, "tokens": 12, "wishes": wishes, "vram": [64 << 30]}], endpoint
        )
    assert answer["notices"]
    assert "failed to allocate RPC0" in answer["notices"][0]
    assert answer["notices"][0].endswith("; trying -c 1024 -ngl 31 -ncmoe 5 --no-mmap")
    assert by_device(answer)["RPC0"] < 500 * MIB


def test_too_little_ram_is_an_error_before_loading_with_advice() -> None:
    options = LoadOptions(n_ctx=4096, **F16, n_threads=1)
    with pytest.raises(EngineError) as caught:
        Engine(read_header(smollm2()), options, machine=Machine(150 * MIB))
    assert str(caught.value) == (
        f"{smollm2()}: needs 199.8 MiB of RAM with a context of 4096 tokens; 150.0 MiB is free, of "
        "which 18.8 MiB is headroom; a shorter context fits: -c 1024; an 8-bit KV cache, "
        "-ctk q8_0 -ctv q8_0, saves 42.2 MiB, which is not enough; "
        "no smaller quant fits either (this file: 5.74 bits per weight)"
    )
