"""The probe in the demo's running mixture: it captures what the routers decided."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.runner.engine import probe as probe_module
from franken_gguf.runner.engine.backend import EngineError
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from franken_gguf.runner.engine.probe import RouterProbe, check_ggml
from support.models import demo_gguf, smollm2

SMALL = LoadOptions(n_ctx=512, n_threads=1, n_gpu_layers=0, n_outputs=8)
STORY = "Once upon a time, in a harbour town, a lighthouse keeper found a map."
LAYERS, EXPERTS, USED = 30, 4, 2


@pytest.fixture(scope="module")
def captured() -> Iterator[tuple[Engine, RouterProbe]]:
    probe = RouterProbe()
    with Engine(read_header(demo_gguf("Q8_0")), SMALL, probe=probe) as engine:
        yield engine, probe


def story(engine: Engine) -> list[int]:
    engine.forget_from(0)
    return engine.vocabulary.prompt(STORY)


def test_every_layers_chosen_experts_are_those_of_the_highest_probability(
    captured: tuple[Engine, RouterProbe],
) -> None:
    engine, probe = captured
    tokens = story(engine)
    engine.logits(tokens, len(tokens) - 8)
    assert sorted(probe.probs) == sorted(probe.chosen) == list(range(LAYERS))
    for layer in range(LAYERS):
        probs, chosen = probe.probs[layer], probe.chosen[layer]
        rows = len(tokens) if layer < LAYERS - 1 else 8
        assert (probs.shape, chosen.shape) == ((rows, EXPERTS), (rows, USED))
        assert probs.min() >= 0
        assert probs.sum(axis=1) == pytest.approx(1, abs=1e-5)
        assert (chosen == np.argsort(-probs, axis=1, kind="stable")[:, :USED]).all()
    # Not the same experts for all: the mixture does route.
    assert len(np.unique(np.concatenate(list(probe.chosen.values())))) == EXPERTS


def test_capturing_changes_no_logit(captured: tuple[Engine, RouterProbe]) -> None:
    engine, _ = captured
    tokens = story(engine)
    with_probe = engine.logits(tokens, len(tokens) - 8).copy()
    with Engine(read_header(demo_gguf("Q8_0")), SMALL) as plain:
        assert (plain.logits(tokens, len(tokens) - 8) == with_probe).all()


def test_an_error_while_capturing_is_raised_after_the_evaluation_and_the_model_still_works(
    captured: tuple[Engine, RouterProbe], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = captured
    tokens = story(engine)
    right = engine.logits(tokens, len(tokens) - 1).copy()
    engine.forget_from(0)
    with monkeypatch.context() as patch:
        patch.setattr(probe_module, "_MAX_BYTES", 1)
        with pytest.raises(
            EngineError, match=r"cannot be captured: a tensor of type (0|26), \d x \d"
        ):
            engine.logits(tokens, len(tokens) - 1)
    engine.forget_from(0)
    assert (engine.logits(tokens, len(tokens) - 1) == right).all()


def test_a_dense_model_has_no_router_to_capture() -> None:
    probe = RouterProbe()
    with Engine(read_header(smollm2()), SMALL, probe=probe) as engine:
        engine.logits(story(engine)[:8])
    assert (probe.chosen, probe.probs) == ({}, {})


@pytest.mark.parametrize(
    ("what", "other"),
    [("_OVERHEAD", 376), ("_OPERATIONS", {29: b"MUL"}), ("_TYPES", {26: (b"i64", np.int64)})],
)
def test_a_ggml_of_another_layout_is_refused(
    what: str, other: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_ggml()
    monkeypatch.setattr(probe_module, what, other)
    with pytest.raises(EngineError, match=r"unknown way.*constraints\.txt"):
        RouterProbe()
