"""The mixture that routers are trained on, in numpy, computes what llama.cpp does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.router_training.loss import measure
from franken_gguf.quantize.router_training.mixture import Mixture
from franken_gguf.runner.compare.results.metrics import log_softmax
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe
from franken_gguf.runner.planning.placement import PlanError
from support.cases import LLAMA3_ROPE, SMALL, change
from support.checkpoints import make_checkpoint
from support.conversions import converted
from support.family_checkpoints import make_family_checkpoint

TOKENS = 48
OPTIONS = LoadOptions(n_ctx=256, n_threads=1, n_gpu_layers=0, n_outputs=TOKENS)


def linear_rope(folder: Path) -> None:
    make_checkpoint(folder, transformers=4, **SMALL)
    change(folder, "config.json", rope_scaling={"type": "linear", "factor": 4.0})


def llama3_rope(folder: Path) -> None:
    make_checkpoint(folder, **SMALL)
    change(folder, "config.json", rope_parameters=LLAMA3_ROPE)


MAKERS: dict[str, Callable[[Path], object]] = {
    "mixtral": lambda folder: make_checkpoint(folder, experts=8, tied=True, **SMALL),
    "linear": linear_rope,
    "llama3": llama3_rope,
    "qwen2_moe": lambda folder: make_family_checkpoint(folder, "qwen2_moe"),
    "qwen3_moe": lambda folder: make_family_checkpoint(folder, "qwen3_moe"),
}


@pytest.fixture
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    MAKERS[request.param](tmp_path / "model")
    return converted(tmp_path / "model", tmp_path / "out", ["F32"])[0]


def losses(model: Path, tokens: NDArray[np.int64], options: LoadOptions) -> NDArray[np.float32]:
    with Engine(read_header(model), options) as engine:
        scores = log_softmax(engine.logits(tokens.tolist()))
    return np.asarray(-scores[np.arange(len(tokens) - 1), tokens[1:]])


@pytest.mark.parametrize("model", MAKERS, indirect=True)
@pytest.mark.parametrize("used", [1, 2])
def test_the_losses_are_llama_cpps(model: Path, used: int) -> None:
    tokens = np.random.default_rng(0).integers(3, 200, TOKENS)
    expected = losses(model, tokens, replace(OPTIONS, experts_used=used))
    mixture = Mixture(read_header(model), 1 << 24)
    mixture.used = used
    found = measure(mixture, mixture.rows(), tokens[None]).losses[0]
    # llama.cpp keeps keys and values in F16.
    assert np.abs(found - expected).max() < 5e-3
    assert expected.std() > 0.1
    mixture.used = 3
    other = measure(mixture, mixture.rows(), tokens[None]).losses[0]
    assert np.abs(other - expected).max() > 2e-2


@pytest.mark.parametrize("model", ["mixtral"], indirect=True)
def test_experts_used_is_how_many_experts_work_on_a_token(model: Path) -> None:
    for used in (1, 3, 8):
        probe = RouterProbe()
        options = replace(OPTIONS, experts_used=used)
        with Engine(read_header(model), options, probe=probe) as engine:
            engine.logits([5, 6, 7])
            flags = engine.plan.flags
        assert {chosen.shape for chosen in probe.chosen.values()} == {(3, used)}
        assert f"llama.expert_used_count=int:{used}" in flags


@pytest.mark.parametrize("model", ["mixtral"], indirect=True)
def test_more_experts_than_there_are_cannot_be_used(model: Path) -> None:
    with pytest.raises(PlanError, match="has 8 experts; give --experts-used 1 to 8"):
        Engine(read_header(model), replace(OPTIONS, experts_used=9))


def test_a_dense_model_has_no_experts_to_use(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "dense", layout="dense", **SMALL)
    (dense,) = converted(tmp_path / "dense", tmp_path / "out", ["F32"])
    with pytest.raises(PlanError, match="has no experts; leave out --experts-used 2"):
        Engine(read_header(dense), replace(OPTIONS, experts_used=2))


def test_a_context_saved_with_other_experts_is_of_another_kind(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", **SMALL)
    (model,) = converted(tmp_path / "model", tmp_path / "out", ["F32"])
    kinds = set()
    for used in (None, 1, 2):
        with Engine(read_header(model), replace(OPTIONS, experts_used=used)) as engine:
            kinds.add(engine.context_kind)
    assert len(kinds) == 3
