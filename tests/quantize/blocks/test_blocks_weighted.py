"""Block formats under an importance matrix: ggml's bytes on every kind of row and of matrix."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.formats import FORMATS, BlockFormat
from support.ggml import HAS_EXACT_GGML, ggml_quantize

F32 = NDArray[np.float32]
Draw = Callable[[np.random.Generator], NDArray[np.floating]]

BLOCKS = [codec for codec in FORMATS.values() if codec.block_len > 1]
each_block_format = pytest.mark.parametrize("codec", BLOCKS, ids=lambda codec: codec.name)
GRID_FORMATS = [codec for codec in BLOCKS if codec.name.startswith(("IQ1", "IQ2", "IQ3"))]
"""Their searches are slow, ggml's too."""
each_quick_format = pytest.mark.parametrize(
    "codec",
    [codec for codec in BLOCKS if codec not in GRID_FORMATS],
    ids=lambda codec: codec.name,
)
needs_exact_ggml = pytest.mark.skipif(
    not HAS_EXACT_GGML, reason="this ggml contracts a*b+c to one rounding"
)

# Formats whose scale follows from the largest weight, whatever the importance.
BLIND = ("Q8_0", "Q1_0", "TQ1_0", "TQ2_0", "MXFP4")

ROWS, COLS = 12, 768


def normal(rng: np.random.Generator) -> NDArray[np.floating]:
    return rng.standard_normal((ROWS, COLS))


def by_block(rng: np.random.Generator, low: int, high: int) -> NDArray[np.floating]:
    return np.repeat(10.0 ** rng.integers(low, high, (ROWS, COLS // 16)), 16, axis=1)


WEIGHTS: dict[str, Draw] = {
    "bell-shaped": normal,
    "heavy-tailed": lambda rng: rng.standard_t(1.5, (ROWS, COLS)),
    "all zero": lambda rng: np.zeros((ROWS, COLS)),
    "constant": lambda rng: np.repeat(rng.standard_normal((ROWS, 1)), COLS, axis=1),
    "constant in each block": lambda rng: np.repeat(
        rng.standard_normal((ROWS, COLS // 16)), 16, axis=1
    ),
    "positive, far from zero": lambda rng: np.abs(normal(rng)) + 1,
    "negative, far from zero": lambda rng: -np.abs(normal(rng)) - 1,
    "close to one another": lambda rng: 1 + 1e-6 * normal(rng),
    "mostly zero": lambda rng: normal(rng) * (rng.random((ROWS, COLS)) < 0.03),
    "zeros of both signs": lambda rng: np.maximum(normal(rng), 0) * rng.choice([1, -1], COLS),
    "negative zeros and a few others": lambda rng: np.where(
        rng.random((ROWS, COLS)) < 0.05, -np.abs(normal(rng)), -0.0
    ),
    "equal magnitudes": lambda rng: rng.choice([-1.0, 1.0], (ROWS, COLS)),
    "few values": lambda rng: rng.integers(-3, 4, (ROWS, COLS)).astype(float),
    "subnormal": lambda rng: normal(rng) * 1e-40,
    "around ggml's epsilon": lambda rng: normal(rng) * 10.0 ** rng.uniform(-18, -12, (ROWS, 1)),
    "blocks of many magnitudes": lambda rng: normal(rng) * by_block(rng, -12, 5),
    "of many magnitudes": lambda rng: normal(rng) * 10.0 ** rng.integers(-12, 5, (ROWS, COLS)),
    "with scales beyond F16": lambda rng: normal(rng) * 1e7,
}
IMPORTANCE: dict[str, Draw] = {
    "even": lambda rng: np.ones(COLS),
    "varied": lambda rng: rng.random(COLS),
    "on few columns": lambda rng: 1000 * rng.random(COLS) ** 8,
    "zero on half of the columns": lambda rng: (rng.random(COLS) < 0.5).astype(float),
    "zero on whole blocks": lambda rng: np.repeat(rng.random(COLS // 16) < 0.5, 16).astype(float),
    "zero": lambda rng: np.zeros(COLS),
    "tiny": lambda rng: 1e-30 * rng.random(COLS),
}


@needs_exact_ggml
@pytest.mark.parametrize("matrix", IMPORTANCE)
@pytest.mark.parametrize("codec", GRID_FORMATS, ids=lambda codec: codec.name)
def test_weighted_blocks_on_a_grid_are_ggmls_byte_for_byte_on_all_kinds_of_rows(
    codec: BlockFormat, matrix: str
) -> None:
    rng = np.random.default_rng(11)
    importance = IMPORTANCE[matrix](rng).astype(np.float32)
    rows = np.concatenate([draw(rng)[:3] for draw in WEIGHTS.values()]).astype(np.float32)
    found, expected = codec.quantize(rows, importance), ggml_quantize(codec, rows, importance)
    differing = np.flatnonzero((found != expected).any(axis=1))
    assert [list(WEIGHTS)[row // 3] for row in differing] == []


@needs_exact_ggml
@pytest.mark.parametrize("matrix", IMPORTANCE)
@pytest.mark.parametrize("kind", WEIGHTS)
@each_quick_format
def test_weighted_blocks_are_ggmls_byte_for_byte(
    codec: BlockFormat, kind: str, matrix: str
) -> None:
    rng = np.random.default_rng(11)
    rows = WEIGHTS[kind](rng).astype(np.float32)
    importance = IMPORTANCE[matrix](rng).astype(np.float32)
    before = rows.tobytes(), importance.tobytes()
    found = codec.quantize(rows, importance)
    assert found.tobytes() == ggml_quantize(codec, rows, importance).tobytes()
    assert (rows.tobytes(), importance.tobytes()) == before, "the caller's arrays were changed"


@needs_exact_ggml
@pytest.mark.parametrize("name", ["Q2_K", "Q4_K", "Q5_K"])
def test_negative_scales_of_blocks_with_hardly_any_importance_spill_as_in_ggml(name: str) -> None:
    rng = np.random.default_rng(3)
    codec = FORMATS[name]
    rows = np.repeat(rng.standard_normal((600, 64)), 8, axis=1).astype(np.float32)
    importance = (np.repeat(rng.random(64) < 0.3, 8) * rng.random(512)).astype(np.float32)
    found = codec.quantize(rows, importance)
    assert found.tobytes() == ggml_quantize(codec, rows, importance).tobytes()


@needs_exact_ggml
@settings(max_examples=25, deadline=None)
@given(st.data())
@each_block_format
def test_each_row_has_the_same_importance_whatever_their_number(
    codec: BlockFormat, data: st.DataObject
) -> None:
    rows = data.draw(st.sampled_from([0, 1, 2, 3] + [129, 300] * (codec not in GRID_FORMATS)))
    cols = codec.block_len * data.draw(st.integers(1, 7))
    rng = np.random.default_rng(rows + cols)
    weights = rng.standard_normal((rows, cols)).astype(np.float32)
    importance = rng.random(cols).astype(np.float32)
    found = codec.quantize(weights, importance)
    assert found.shape == (rows, codec.row_bytes(cols))
    assert found.tobytes() == ggml_quantize(codec, weights, importance).tobytes()


@needs_exact_ggml
@settings(max_examples=60, deadline=None)
@given(st.data())
@each_block_format
def test_any_weights_and_importance_are_quantized_alike(
    codec: BlockFormat, data: st.DataObject
) -> None:
    elements = st.floats(-(2.0**16), 2.0**16, width=32) | st.sampled_from([0.0, -0.0, 1.0, -1.0])
    strengths = st.floats(0, 2.0**16, width=32)
    rows = data.draw(hnp.arrays(np.float32, (2, codec.block_len), elements=elements))
    importance = data.draw(hnp.arrays(np.float32, codec.block_len, elements=strengths))
    found = codec.quantize(rows, importance)
    assert found.tobytes() == ggml_quantize(codec, rows, importance).tobytes()


@pytest.mark.parametrize(
    "codec",
    [codec for codec in BLOCKS if codec.name not in BLIND],
    ids=lambda codec: codec.name,
)
def test_columns_that_matter_are_kept_better(codec: BlockFormat) -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((64, 512)).astype(np.float32)
    importance = np.where(rng.random(512) < 0.2, 100, 1).astype(np.float32)

    def loss(blocks: NDArray[np.uint8]) -> float:
        return float((np.square(codec.dequantize(blocks) - rows) * importance).sum())

    even = np.ones_like(importance) if codec.needs_importance else None
    assert loss(codec.quantize(rows, importance)) < loss(codec.quantize(rows, even))


@each_block_format
def test_threads_do_not_disturb_one_another(codec: BlockFormat) -> None:
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((40, 512)).astype(np.float32) for _ in range(4)]
    importance = np.ones(512, np.float32)
    alone = [codec.quantize(rows, importance).tobytes() for rows in inputs]
    together: list[bytes] = [b""] * len(inputs)

    def work(i: int) -> None:
        for _ in range(3):
            together[i] = codec.quantize(inputs[i], importance).tobytes()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
