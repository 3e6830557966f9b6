"""The mixtures beside Mixtral: their routers are captured, their experts get importances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.tensor_types.type_choice import is_quantizable
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.imatrix.collect import open_collector
from support.conversions import converted
from support.family_checkpoints import LOGIT_TOKENS, FamilyName, make_family_checkpoint

TOKENS = len(LOGIT_TOKENS)
OPTIONS = LoadOptions(n_ctx=256, n_threads=1, n_gpu_layers=0, n_outputs=TOKENS)
# DeepSeek's first layer has no experts.
ROUTED = {"qwen2_moe": [0, 1, 2], "qwen3_moe": [0, 1, 2], "deepseek": [1, 2]}


@pytest.fixture
def model(tmp_path: Path, family: FamilyName) -> Path:
    return converted(make_family_checkpoint(tmp_path / family, family), tmp_path / "out", ["F16"])[
        0
    ]


@pytest.mark.parametrize("family", ROUTED)
def test_the_choices_of_every_router_are_captured(model: Path, family: FamilyName) -> None:
    probe = RouterProbe()
    with Engine(read_header(model), OPTIONS, probe=probe) as engine:
        engine.logits(LOGIT_TOKENS)
    assert sorted(probe.chosen) == sorted(probe.probs) == ROUTED[family]
    for layer in ROUTED[family]:
        probs, chosen = probe.probs[layer], probe.chosen[layer]
        assert (probs.shape, chosen.shape) == ((TOKENS, 4), (TOKENS, 2))
        assert (chosen == np.argsort(-probs, axis=1, kind="stable")[:, :2]).all()


@pytest.mark.parametrize("family", ROUTED)
def test_every_matrix_gets_importances_shared_experts_included(
    model: Path, family: FamilyName
) -> None:
    header = read_header(model)
    with open_collector(header, 64, OPTIONS) as collector:
        sums = collector.chunk_sums(list(range(5, 69)))
    wanted = {
        tensor.name: tensor.shape
        for tensor in header.tensors
        if is_quantizable(tensor.name, tensor.shape) and tensor.name.startswith("blk.")
    }
    assert wanted.keys() <= sums.keys()
    assert {f"blk.1.ffn_{name}_exps.weight" for name in ("gate", "up", "down")} <= wanted.keys()
    assert any("_shexp" in name for name in wanted) == (family != "qwen3_moe")
    for name, shape in wanted.items():
        experts = shape[0] if len(shape) == 3 else 1
        assert sums[name].sums.shape == (experts, shape[-1]), name
        assert sums[name].sums.sum() > 0
