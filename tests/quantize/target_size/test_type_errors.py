"""The error of a type, from a sample of a tensor's rows."""

from __future__ import annotations

import numpy as np
import pytest

from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.target_size.type_errors import Run, relative_error, weighted_square
from franken_gguf.quantize.tensor_types.type_presets import Type


def runs(count: int, heavy: int) -> list[Run]:
    """Rows of random weights; the run numbered `heavy` has one weight that outweighs the others."""
    rng = np.random.default_rng(0)
    importance = rng.uniform(0.5, 1.5, 256).astype(np.float32)
    found = []
    for number in range(count):
        rows = rng.normal(size=(8, 256)).astype(np.float32)
        if number == heavy:
            rows[0, 7] = 5000
        found.append(Run(rows, importance, weighted_square(rows, importance)))
    return found


def whole_error(kind: Type, sample: list[Run]) -> float:
    rows = np.concatenate([run.rows for run in sample])
    importance = sample[0].importance
    codec = FORMATS[kind.name]
    rounded = codec.dequantize(codec.quantize(rows, importance))
    return weighted_square(rounded - rows, importance) / weighted_square(rows, importance)


@pytest.mark.parametrize("count", [4, 16])
@pytest.mark.parametrize("heavy", range(4))
@pytest.mark.parametrize("kind", [Type.IQ3_S, Type.IQ2_XS])
def test_rows_that_make_up_most_of_a_tensor_are_tried_for_slow_types(
    kind: Type, heavy: int, count: int
) -> None:
    sample = runs(count, heavy)
    assert relative_error(kind, sample) == pytest.approx(whole_error(kind, sample), rel=0.1)


@pytest.mark.parametrize("kind", [Type.Q3_K, Type.Q4_0, Type.IQ4_XS])
def test_other_types_are_tried_on_all_rows(kind: Type) -> None:
    sample = runs(16, heavy=3)
    assert relative_error(kind, sample) == pytest.approx(whole_error(kind, sample), rel=1e-6)


def test_weights_of_zero_have_no_error() -> None:
    zeros = np.zeros((8, 256), np.float32)
    assert relative_error(Type.IQ3_S, [Run(zeros, None, 0.0)] * 4) == 0.0
