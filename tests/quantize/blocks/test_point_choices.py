"""Points of a grid chosen together: where they lie in the bytes, and which is the nearest."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from franken_gguf.quantize.blocks.code_refinement import refined
from franken_gguf.quantize.blocks.formats import FORMATS
from franken_gguf.quantize.blocks.moments import prepared
from franken_gguf.quantize.blocks.point_choices import PointChoices
from franken_gguf.quantize.blocks.point_planes import (
    POINT_LAYOUTS,
    offsets_and_units,
    packed,
    point_values,
    read_points,
    with_points,
)

F32 = NDArray[np.float32]
ROWS, COLS = 24, 512
INDEPENDENT = prepared([np.eye(256, dtype=np.float32)] * 2, damping=0)
each_format = pytest.mark.parametrize("name", POINT_LAYOUTS)


def random_weights(seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((ROWS, COLS)).astype(np.float32)


def quantized(name: str, weights: F32) -> NDArray[np.uint8]:
    return FORMATS[name].quantize(weights, np.ones(weights.shape[1], np.float32))


def as_values(name: str, numbers: NDArray[np.uint32]) -> F32:
    """What points stand for in units of the scale, with signs: [rows, cols]."""
    values = point_values(name)
    each = 8 // values.shape[1]
    points = np.stack([numbers >> 8 + 12 * k & 4095 for k in range(each)], axis=-1)
    minus = numbers[..., None] >> np.arange(8) & 1
    sizes = values[points].reshape(*numbers.shape, 8)
    return np.where(minus, -sizes, sizes).reshape(len(numbers), -1).astype(np.float32)


@each_format
def test_points_are_read_and_written_back_byte_by_byte(name: str) -> None:
    shape = (8, FORMATS[name].row_bytes(COLS))
    blocks = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    assert np.array_equal(with_points(name, blocks, read_points(name, blocks)), blocks)


@each_format
def test_offset_unit_point_and_signs_give_the_weight_that_the_format_does(name: str) -> None:
    blocks = quantized(name, random_weights())
    offset, unit = offsets_and_units(name, blocks)
    found = offset + unit * as_values(name, read_points(name, blocks))
    np.testing.assert_allclose(found, FORMATS[name].dequantize(blocks), rtol=0, atol=2e-6)


@each_format
def test_any_point_and_signs_that_are_written_are_read_again(name: str) -> None:
    rng = np.random.default_rng(3)
    values = point_values(name)
    points = rng.integers(0, len(values), (ROWS, COLS // 8, 8 // values.shape[1]))
    signs = np.zeros(points.shape[:2], np.uint8)
    if layout := POINT_LAYOUTS[name].signs:
        negative = rng.random((*signs.shape, 8)) < 0.5
        if layout.width == 7:
            negative[..., 7] = np.bitwise_xor.reduce(negative[..., :7], axis=-1)
        signs = np.packbits(negative, axis=-1, bitorder="little")[..., 0]
    numbers = packed(points, signs)
    written = with_points(name, quantized(name, random_weights()), numbers)
    assert np.array_equal(read_points(name, written), numbers)


@pytest.mark.parametrize("name", ["IQ1_S", "IQ1_M", "IQ2_S", "IQ3_S"])
def test_when_columns_are_independent_each_vector_gets_its_nearest_point(name: str) -> None:
    weights = random_weights()
    blocks = quantized(name, weights)
    new = FORMATS[name].dequantize(refined(name, weights, blocks, INDEPENDENT))
    offset, unit = offsets_and_units(name, blocks)
    values = point_values(name)
    x = weights - offset if POINT_LAYOUTS[name].signs is None else np.abs(weights)
    length = values.shape[1]
    off = unit.reshape(-1, length)[:, None, :] * values - x.reshape(-1, length)[:, None, :]
    nearest = np.square(off).sum(axis=2).min(axis=1)
    found = np.square(new - weights).reshape(-1, length).sum(axis=1)
    np.testing.assert_allclose(found, nearest, rtol=1e-4, atol=1e-6)


@each_format
def test_the_codes_of_chosen_weights_stand_for_these_weights(name: str) -> None:
    blocks = quantized(name, random_weights())
    choices = PointChoices(name, blocks, INDEPENDENT)
    targets = random_weights(1).reshape(ROWS, 2, 256).transpose(2, 1, 0)
    counts = np.ones((2, 8), np.float32)
    vectors = [slice(start, start + 8) for start in range(0, 256, 8)]
    nearest = np.concatenate([choices.nearest(some, targets[some], counts) for some in vectors])
    codes = choices.codes(nearest, np.zeros((32, 2, ROWS), np.uint32))
    written = choices.write(codes.transpose(2, 1, 0).reshape(ROWS, -1))
    found = FORMATS[name].dequantize(written).reshape(ROWS, 2, 256).transpose(2, 1, 0)
    np.testing.assert_allclose(found, nearest, rtol=0, atol=2e-6)


def test_a_column_that_counts_more_is_met_more_closely() -> None:
    blocks = quantized("IQ2_S", random_weights())
    choices = PointChoices("IQ2_S", blocks, INDEPENDENT)
    targets = np.ascontiguousarray(random_weights(1).reshape(ROWS, 2, 256).transpose(2, 1, 0)[:8])
    off = []
    for first in (1, 1000):
        counts = np.ones((2, 8), np.float32)
        counts[:, 0] = first
        errors = choices.nearest(slice(0, 8), targets, counts) - targets
        off.append(np.square(errors).sum(axis=(1, 2)))
    assert off[1][0] < off[0][0]
    assert off[1][1:].sum() > off[0][1:].sum()


def test_groups_that_are_no_multiple_of_eight_columns_keep_their_codes() -> None:
    weights = random_weights()
    rows = np.ascontiguousarray(np.tile(weights, (1, 3))[:, : 5 * 256])
    blocks = quantized("IQ2_S", rows)
    odd = prepared([np.eye(5 * 256 // 128, dtype=np.float32)] * 128)
    assert refined("IQ2_S", rows, blocks, odd) is blocks
