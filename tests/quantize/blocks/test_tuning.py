"""How much is worked on at once changes the speed, never the bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from franken_gguf.quantize.blocks.columns import Tuning
from franken_gguf.quantize.blocks.formats import FORMATS, TunedQuantize
from support.ggml import HAS_EXACT_GGML, ggml_quantize

TYPES = [codec.name for codec in FORMATS.values() if codec.block_len > 1]
ROWS = np.random.default_rng(5).standard_normal((9, 1024), np.float32)
IMPORTANCE = np.random.default_rng(6).random(1024, np.float32)


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=4, deadline=None)
@given(chunk=st.floats(1e-4, 1.5), buffer=st.integers(1, 600).map(lambda n: 16 * n))
def test_no_tuning_changes_a_byte(name: str, chunk: float, buffer: int) -> None:
    codec, other = FORMATS[name], TunedQuantize(name, Tuning(chunk, buffer))
    assert (other(ROWS, IMPORTANCE) == codec.quantize(ROWS, IMPORTANCE)).all()
    if not codec.needs_importance:
        assert (other(ROWS, None) == codec.quantize(ROWS, None)).all()


def test_a_tuning_ends_with_its_call() -> None:
    before = np.getbufsize()
    TunedQuantize("Q4_K", Tuning(0.25, 4096))(ROWS, None)
    assert np.getbufsize() == before


@pytest.mark.skipif(not HAS_EXACT_GGML, reason="ggml's bytes are only equal on x86-64")
@pytest.mark.parametrize("name", ["Q5_0", "Q3_K"])
def test_a_block_alone_is_quantized_as_among_others(name: str) -> None:
    codec = FORMATS[name]
    for seed in range(400):
        rng = np.random.default_rng(seed)
        row, importance = rng.standard_normal((1, codec.block_len), np.float32), None
        if seed % 2:
            importance = rng.random(codec.block_len, np.float32)
        expected = ggml_quantize(codec, row, importance)
        assert (codec.quantize(row, importance) == expected).all(), seed
