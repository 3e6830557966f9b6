"""The demo's model: widened without loss, put together right, the same on every machine."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from safetensors import safe_open
from smollm2_wide import adds, half_rotated, reads, widen

from franken_gguf.quantize.convert import convert
from franken_gguf.quantize.gguf_file.header import read_header
from franken_gguf.quantize.open_source import open_source
from franken_gguf.quantize.output.output import plan_output
from franken_gguf.quantize.tensor_types.type_choice import Overrides
from franken_gguf.quantize.tensor_types.type_presets import find_preset
from franken_gguf.runner.engine.engine import Engine, LoadOptions
from support.models import demo_checkpoint, dense_checkpoint, smollm2

F32 = NDArray[np.float32]
TEXT = "The quick brown fox jumps over the lazy dog, and the dog, being lazy, sleeps on in the sun."

# Small whole numbers: sums of their products are exact in float32, and so are their halves.
whole = st.integers(-50, 50).map(np.float32)


@st.composite
def two_of_one_width(draw: st.DrawFn) -> tuple[F32, F32]:
    width = 3 * draw(st.integers(1, 12))
    shape = st.tuples(st.integers(1, 5), st.just(width))
    return (
        draw(arrays(np.float32, shape, elements=whole)),
        draw(arrays(np.float32, shape, elements=whole)),
    )


@given(two_of_one_width())
def test_widening_keeps_every_inner_product(pair: tuple[F32, F32]) -> None:
    a, b = pair
    assert np.array_equal(widen(a) @ widen(b).T, a @ b.T)


@given(two_of_one_width())
def test_what_adds_to_the_stream_adds_the_same_to_the_wide_one(pair: tuple[F32, F32]) -> None:
    a, b = pair
    matrix = np.ascontiguousarray(a.T)
    inputs = b[:, : matrix.shape[1]].copy()
    inputs.resize((len(b), matrix.shape[1]))
    assert np.array_equal(inputs @ adds(matrix).T, widen(inputs @ matrix.T))


def test_what_reads_a_norm_of_the_stream_reads_the_same_from_the_wide_plain_norm() -> None:
    random = np.random.default_rng(5)
    x = random.standard_normal((4, 576), np.float32)
    matrix, norm = random.standard_normal((7, 576), np.float32), random.random(576, np.float32)

    def plain_norm(rows: F32, eps: float) -> F32:
        scale: F32 = np.sqrt(np.mean(rows.astype(np.float64) ** 2, axis=1, keepdims=True) + eps)
        return rows / scale

    narrow = (plain_norm(x, 1e-2) * norm) @ matrix.T
    wide = plain_norm(widen(x), 0.75e-2) @ reads(matrix, norm).T
    np.testing.assert_allclose(wide, narrow, rtol=1e-5, atol=1e-5)


def test_rotary_rows_go_from_pairs_to_halves_head_by_head() -> None:
    rows = np.arange(3 * 64, dtype=np.float32)[:, None]
    moved = half_rotated(rows, heads=3)[:, 0].reshape(3, 2, 32)
    for head in range(3):
        assert moved[head, 0].tolist() == [64 * head + 2 * i for i in range(32)]
        assert moved[head, 1].tolist() == [64 * head + 2 * i + 1 for i in range(32)]


@pytest.mark.parametrize(
    ("name", "shape", "digest"),
    [
        ("lm_head.weight", (49152, 768), "3e396233d0e51606"),
        ("model.layers.0.self_attn.k_proj.weight", (256, 768), "4680da814921e334"),
        ("model.layers.17.self_attn.o_proj.weight", (768, 768), "fb035b6853825abb"),
        ("model.layers.29.block_sparse_moe.gate.weight", (4, 768), "ef0ad2b7fbceb7ac"),
        ("model.layers.29.block_sparse_moe.experts.3.w2.weight", (768, 1536), "c9b2595e7ad5b6ea"),
    ],
)
def test_the_weights_are_the_same_on_every_machine(
    name: str, shape: tuple[int, ...], digest: str
) -> None:
    tensor = read(name)
    assert tensor.shape == shape
    assert tensor.dtype == np.float16
    assert hashlib.sha256(tensor.tobytes()).hexdigest()[:16] == digest


def test_the_experts_differ_a_little() -> None:
    experts = [
        read(f"model.layers.3.block_sparse_moe.experts.{e}.w2.weight").astype(np.float32)
        for e in range(4)
    ]
    for one, other in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]:
        difference = np.abs(experts[one] - experts[other]).mean() / np.abs(experts[one]).mean()
        assert 0.01 < difference < 0.15


def test_every_shard_is_named_in_the_index_and_the_licence_is_kept() -> None:
    folder = demo_checkpoint()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {f.name for f in folder.glob("*.safetensors")}
    assert (folder / "LICENSE").read_bytes() == smollm2().with_name("LICENSE").read_bytes()


def test_the_mixture_answers_like_smollm2() -> None:
    """As near as noise and Q8_0 leave it; a slip in the widening costs several nats."""
    assert divergence(log_probabilities(smollm2()), converted(demo_checkpoint(), "Q8_0")) < 0.15


def test_the_dense_model_answers_like_smollm2_word_for_word() -> None:
    """Both in F16: on Q4_1 weights llama.cpp rounds the activations too, which costs 0.007 nats."""
    assert divergence(converted(smollm2(), "F16"), converted(dense_checkpoint(), "F16")) < 1e-4


def converted(model: Path, kind: str) -> NDArray[np.float64]:
    """What `model` says after conversion to `kind`, as `log_probabilities` gives it."""
    source = open_source(model)
    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder) / "model.gguf"
        output = plan_output(source, gguf, find_preset(kind), Overrides(), allow_requantize=True)
        convert(source, [output])
        return log_probabilities(gguf)


def divergence(original: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """Mean Kullback-Leibler divergence over TEXT, in nats per token."""
    return float((np.exp(original) * (original - made)).sum(axis=1).mean())


def read(name: str) -> NDArray[np.float16]:
    """One tensor of the demo's checkpoint."""
    folder = demo_checkpoint()
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    with safe_open(folder / index["weight_map"][name], "numpy") as shard:
        tensor: NDArray[np.float16] = shard.get_tensor(name)
    return tensor


def log_probabilities(gguf: Path) -> NDArray[np.float64]:
    """[tokens, vocabulary]: of what follows each token of TEXT."""
    options = LoadOptions(n_ctx=64, n_threads=1, n_gpu_layers=0)
    with Engine(read_header(gguf), options) as engine:
        tokens = engine.vocabulary.tokenize(TEXT)
        rows = []
        for token in tokens:
            engine.decode([token])
            rows.append(engine.last_logits().copy())
    found = np.array(rows, np.float64)
    found -= found.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = found - np.log(np.exp(found).sum(axis=1, keepdims=True))
    return result
