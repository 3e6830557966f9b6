"""A mixture whose layers' experts have different types, loaded as planned, with an RPC worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gguf import GGMLQuantizationType as Type

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.cli import main
from franken_gguf.runner.planning.model_shape import model_shape
from franken_gguf.runner.planning.placement import Device, Machine, PlacementOptions
from franken_gguf.runner.planning.planner import plan
from support.checkpoints import make_checkpoint
from support.shapes import sparse_model
from support.workers import by_device, engines, planned, worker

SLOW = (0, 2, 3, 5)
"""Layers whose experts are in IQ3_S; those of the others, 1 and 4, are in Q4_K."""
ROUNDING = 1 << 16
"""llama.cpp prints a hundredth of a MiB for each buffer."""
RPC = Device("RPC0", 1 << 40, copies_weights=False, is_remote=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    source = make_checkpoint(folder / "tales", layers=6)
    slow = rf"blk\.({'|'.join(map(str, SLOW))})\.ffn_.*_exps=IQ3_S"
    words = ["-q", "Q4_K_S", "--tensor-type", slow, "--tensor-type", "_exps=Q4_K"]
    path = folder / "mixed.gguf"
    made = CliRunner().invoke(main, ["convert", str(source), *words, "-o", str(path)])
    assert made.exit_code == 0, made.output
    return path


@pytest.fixture(scope="module")
def answers(model: Path) -> list[dict[str, Any]]:
    """On the CPU alone, and with room on the device for the experts of about four layers."""
    wishes: Any = {"n_ctx": 256, "flash_attention": True, "repack": False}
    base = {"model": str(model), "tokens": 8}
    shape = model_shape(read_header(model))
    whole = plan(shape, Machine(1 << 40, (RPC,)), PlacementOptions(**wishes))
    in_ram = sum(w.nbytes for w in shape.weights if w.projection and w.kind == "Q4_K")
    room = (whole.total("RPC0") - in_ram) * 8 // 7 + ROUNDING
    with worker() as endpoint:
        return engines(
            [
                base | {"wishes": wishes | {"n_gpu_layers": 0}},
                base | {"wishes": wishes, "vram": [room]},
            ],
            endpoint,
        )


def test_experts_that_a_cpu_decodes_slowly_are_on_the_device_by_llama_cpps_own_log(
    answers: list[dict[str, Any]],
) -> None:
    _, shared = answers
    assert shared["plan"]["cpu_moe_layers"] == [1, 4]
    assert shared["plan"]["partly"] == []
    kinds = ("attention", "experts", "router", "norms", "embeddings", "other")
    found, foreseen = by_device(shared, "model"), planned(shared, *kinds)
    assert found.keys() == foreseen.keys() == {"CPU", "RPC0"}
    for name in found:
        assert abs(found[name] - foreseen[name]) <= ROUNDING


def test_all_memory_is_within_5_percent_of_the_plan(answers: list[dict[str, Any]]) -> None:
    found, foreseen = by_device(answers[1]), planned(answers[1])
    for name in found:
        assert abs(found[name] - foreseen[name]) <= 0.05 * found[name] + ROUNDING


def test_the_answer_is_the_same_as_on_the_cpu_alone(answers: list[dict[str, Any]]) -> None:
    alone, shared = (answer["tokens"] for answer in answers)
    assert len(alone) == 8
    assert shared == alone


def test_compute_buffers_are_foreseen_where_experts_in_ram_are_between_others(
    tmp_path: Path,
) -> None:
    path = sparse_model(
        tmp_path / "fine.gguf",
        n_embd=2048,
        n_ff=768,
        heads=32,
        kv_heads=4,
        experts=32,
        used=8,
        layers=8,
        kind=Type.Q5_K,
        expert_kinds=(Type.IQ3_XXS, Type.IQ4_XS, Type.IQ3_XXS),
    )
    wishes = {"n_ctx": 512, "type_k": "f16", "type_v": "f16"}
    job = {"measure": True, "model": str(path), "wishes": wishes}
    free = (int(path.stat().st_size * part) for part in (0.42, 0.51))
    with worker() as one, worker() as other:
        results = engines([job | {"vram": [each, each]} for each in free], one, other)
    assert [result["plan"]["cpu_moe_layers"] for result in results] == [[0, 1, 2, 4, 7], [1, 4, 7]]
    for result in results:
        found, foreseen = by_device(result, "compute", "output"), planned(result, "compute buffers")
        for name in found:  # a little more is room to spare, less is a failed allocation
            assert 0.99 * found[name] <= foreseen[name] + ROUNDING <= 1.2 * found[name] + ROUNDING
